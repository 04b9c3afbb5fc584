"""A node that returns with rows the other one never got: quarantined, saved, merged, or refused. Nobody but its operator decides."""

import contextlib
import time

from mmhalab import net
from mmhalab.sh import ensure, wait_for

SAVED = "/var/lib/mmha/quarantine"


def part_ways(lab, flavor, extra, newer=()):
    """db-01 runs `extra` (as root, on its server) that db-02 never gets, and loses power; db-02 is told to go on without, and runs `newer`
    through the floating address; db-01 returns. Ends with both agents running again."""
    first, second = lab.pair(flavor)
    (a, b) = [address for _, address in net.NODES]
    net.drop([f"ip saddr {x} ip daddr {y} tcp {port} 3306" for x, y in ((a, b), (b, a)) for port in ("sport", "dport")])
    wait_for(lambda: not first.status()["replication"]["protected"], 40, "db-01 to go on unprotected, knowingly")
    for statement in extra:
        first.sql(statement)
    first.sql("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")  # what was acknowledged outlives the power loss
    first.power_off()
    lab.heal()
    wait_for(lambda: second.status()["rule"] == 24, 20, "db-02 to refuse to take over without what it never got")
    second.mmha("switchover", "--force", timeout=60).check()
    ensure("committed after the last heartbeat at risk" in second.sh("mmha events"), "a forced takeover does not name the risk")
    for statement in newer:
        lab.client(statement).check()
    first.boot()
    return first, second


@contextlib.contextmanager
def without_binlog_tool(box):
    """The server's binlog tool is not on the box, under neither name."""
    tools = [box.root / "usr/bin" / name for name in ("mariadb-binlog", "mysqlbinlog")]
    for tool in tools:
        tool.rename(tool.with_suffix(".away"))
    yield
    for tool in tools:
        tool.with_suffix(".away").rename(tool)


def quarantined(box, bound=20):
    """Wait for the quarantine and its file; returns the file's path and text."""
    wait_for(lambda: box.state() == "quarantined", 40, f"{box.name} to be quarantined")
    wait_for(lambda: (box.status()["quarantine"] or {}).get("file"), bound, "the extra transactions to be saved")
    path = box.status()["quarantine"]["file"]
    ensure(path.startswith(SAVED), path)
    modes = box.sh(["stat", "-c", "%a %U", SAVED, path]).split("\n")
    ensure(modes[:2] == ["700 root", "600 root"], f"modes {modes}")
    return path, box.read(path)


def rows(box, where):
    return box.sql(f"SELECT GROUP_CONCAT(CONCAT(writer, n) ORDER BY writer, n) FROM shop.numbered WHERE {where}")


def insert(writer, *numbers):
    return [f"INSERT INTO shop.numbered (writer, n) VALUES ('{writer}', {n})" for n in numbers]


def merge_brings_both_together(lab, flavor):
    """The story of a merge; returns how long it took."""
    first, second = part_ways(lab, flavor, insert("extra", 1, 2, 3), insert("newer", 1, 2))
    path, text = quarantined(first)
    ensure(all(f"'extra'\n###   @2={n}" in text for n in (1, 2, 3)), f"the file lacks rows:\n{text[-3000:]}")
    ensure("'newer'" not in text and text.count("### INSERT") == 3, "the file holds more than the extra transactions")
    ensure(path in first.sh("grep 'are saved in' /var/log/syslog"), "the log does not name the file")
    explained = first.mmha("rejoin")
    ensure(explained.rc == 4 and path in explained.out and "3 extra transactions" in explained.out and "--merge" in explained.out, str(explained))
    tried = first.mmha("rejoin", "--merge", "--dry-run", timeout=60)
    ensure(tried.rc == 0 and "3 changed rows" in tried.out and "nothing was changed" in tried.out, str(tried))
    ensure(first.state() == "quarantined" and second.state() == "active", "a dry run changed something")
    refused = second.mmha("rejoin", "--merge")
    ensure(refused.rc == 5 and "not quarantined" in refused.err, str(refused))
    start = time.monotonic()
    merged = first.mmha("rejoin", "--merge", timeout=120)
    ensure(merged.rc == 0 and "merged after" in merged.out, str(merged))
    took = time.monotonic() - start
    both = "writer IN ('extra', 'newer')"
    wanted = "extra1,extra2,extra3,newer1,newer2"
    wait_for(lambda: [rows(box, both) for box in (first, second)] == [wanted] * 2, 20, "all rows on both nodes")
    standby = time.monotonic()
    lab.wait_steady(90)
    home = time.monotonic() - standby
    ensure(home >= 3, f"failed back {home:.1f} s after the merge, sooner than failback_delay")
    ensure(not first.exists(f"{SAVED}/accepted") and first.exists(path), "what was accepted is forgotten, what was saved is kept")
    ensure(lab.client("SELECT COUNT(*) FROM shop.numbered WHERE writer='extra'").check().out.strip() == "3", "rows through the VIP")
    first.sql("DELETE FROM shop.numbered WHERE writer IN ('extra', 'newer')")
    return f"merged in {took:.1f} s, steady {home:.1f} s later"


def extra_rows_are_saved_and_merged(lab):
    """db-01 goes on alone, loses power, and db-02 is told to serve without its last rows. db-01 returns: quarantined, its rows in a file.
    `mmha rejoin` explains; --merge brings the rows to both nodes; the pair is steady again and the address home after failback_delay."""
    return merge_brings_both_together(lab, "mariadb")


def maintenance_alone_is_no_quarantine(lab):
    """The only extra transactions are ANALYZE and FLUSH by root: nobody's data. The node comes back by itself."""
    first, _ = part_ways(lab, "mariadb", ["ANALYZE TABLE shop.numbered", "FLUSH TABLES"], insert("newer", 7))
    lab.wait_steady(120)
    ensure("hold nobody's data" in first.sh("cat /var/log/syslog"), "it came back, but not for the reason it should")
    first.sql("DELETE FROM shop.numbered WHERE writer='newer'")


def merge_stops_at_a_conflict(lab):
    """Two rows that differ in their keys and collide in a unique column: the comparison cannot see that, the holder's applier stops at it and
    the command says so. Nothing is lost, the address stays, also over the returned node's second power loss. Settled by hand, the merge goes on."""
    first, second = lab.pair()
    lab.client("CREATE TABLE IF NOT EXISTS shop.seats (id INT PRIMARY KEY, seat VARCHAR(9) UNIQUE)").check()
    lab.wait_steady(20)
    first, second = part_ways(lab, "mariadb", ["INSERT INTO shop.seats VALUES (1, '7A')", *insert("extra", 5)],
                              ["INSERT INTO shop.seats VALUES (2, '7A')"])
    quarantined(first)
    stopped = first.mmha("rejoin", "--merge", timeout=120)
    ensure(stopped.rc == 1 and "first conflict" in stopped.err and "1062" in stopped.err and "shop.seats" in stopped.err, str(stopped))
    wait_for(lambda: "1062" in " ".join(second.status()["warnings"]), 5, "the holder's status to name the conflict")

    def unharmed():
        ensure(second.state() == "active" and second.holds_vip() and not first.holds_vip(), "the address moved")
        ensure(first.state() == "quarantined", f"db-01 is {first.state()}")
        ensure(first.sql("SELECT id FROM shop.seats") == "1" and second.sql("SELECT id FROM shop.seats") == "2", "a row was lost")

    unharmed()
    first.power_off()
    first.boot()
    wait_for(lambda: first.state() == "quarantined" and first.status()["rule"] == 88, 40, "the merge to be remembered")
    unharmed()
    lab.client("INSERT INTO shop.numbered (writer, n) VALUES ('newer', 5)").check()
    # The holder's row stands in its binlog, deleted or not: db-01 makes room for it as long as it passes.
    first.sql("SET sql_log_bin=0; UPDATE shop.seats SET seat=NULL WHERE id=1")
    second.sql("DELETE FROM shop.seats WHERE id=2; START REPLICA SQL_THREAD")
    wait_for(lambda: first.state() != "quarantined", 30, "the merge to go on by itself")
    both = "n=5 AND writer IN ('extra', 'newer')"  # the loads of earlier cases have numbers too
    wait_for(lambda: rows(first, both) == rows(second, both) == "extra5,newer5", 20, "all rows on both nodes")
    first.sql("SET sql_log_bin=0; UPDATE shop.seats SET seat='7A' WHERE id=1")
    lab.wait_steady(90)
    ensure(first.sql("SELECT * FROM shop.seats") == second.sql("SELECT * FROM shop.seats") == "1\t7A", "the tables differ")


def the_same_row_changed_on_both_is_never_merged(lab):
    """One row was changed on both nodes: replication would swap the two values without an error. The merge is refused with the row's name,
    nothing is touched, nobody moves. Without
    the server's binlog tool nothing is saved, status says so, and it is made up for when the tool is there. --discard says what a re-seed takes, and does no half of it."""
    first, second = lab.pair()
    lab.client("INSERT INTO shop.numbered (writer, n) VALUES ('shared', 1)").check()
    lab.wait_steady(20)
    change = "UPDATE shop.numbered SET at='{}' WHERE writer='shared'"
    with without_binlog_tool(first):
        first, second = part_ways(lab, "mariadb", [change.format("2001-01-01"), *insert("given up", 9)], [change.format("2002-02-02")])
        wait_for(lambda: "not installed" in first.status()["quarantine"]["trouble"], 40, "status to say why nothing is saved")
        refused = first.mmha("rejoin", "--merge")
        ensure(refused.rc == 5 and "not saved yet" in refused.err, str(refused))
    quarantined(first, 45)
    for options in (["--dry-run"], []):
        refused = first.mmha("rejoin", "--merge", *options, timeout=60)
        ensure(refused.rc == 5 and "conflict: db-02 has changed" in refused.err and "'shared', 1" in refused.err, str(refused))
    discarded = first.mmha("rejoin", "--discard")
    ensure(discarded.rc == 4 and "Re-seed needed" in discarded.out and "mmha bootstrap" in discarded.out, str(discarded))
    for box, year in ((first, "2001"), (second, "2002")):
        ensure(box.sql("SELECT YEAR(at) FROM shop.numbered WHERE writer='shared'") == year, f"{box.name} was touched")
    ensure(first.state() == "quarantined" and second.state() == "active" and not first.holds_vip(), "somebody moved")
    ensure(rows(first, "writer='given up'") == "given up9" and rows(second, "writer='given up'") == "NULL", "the merge was half done")
    reseed(lab, first, second)
    ensure([box.sql("SELECT YEAR(at) FROM shop.numbered WHERE writer='shared'") for box in (first, second)] == ["2002"] * 2, "not the holder's row")
    ensure(rows(first, "writer='given up'") == "NULL", "what was given up is still there")


def reseed(lab, first, second):
    """The steps that --discard prints, in its order."""
    first.sh(["systemctl", "disable", "--now", "mmha"], 60)
    first.sql("SET sql_log_bin=0; DROP DATABASE shop; STOP REPLICA; RESET REPLICA ALL")
    second.sh(["systemctl", "stop", "mmha"], 60)
    refused = lab.bootstrap()
    ensure(all("db-01 is empty" in result.out + result.err for result in refused), f"bootstrap does not say what to copy: {refused}")
    command = next(line for line in refused[1].err.splitlines() + refused[1].out.splitlines() if "mariadb-dump" in line).strip()
    dump = second.sh(command.split(" | ")[0], 60)
    first.run(["mariadb"], 60, dump).check()
    for result in lab.bootstrap():
        result.check()
    lab.start_agents()
    lab.wait_steady(90)


def mysql_extra_rows_are_saved_and_merged(lab):
    """The same on a pair of MySQL 9.7 servers, where also a transaction that was in flight at a power loss ends so."""
    return merge_brings_both_together(lab, "mysql")
