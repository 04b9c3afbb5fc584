"""Both boxes lose power, and what the servers suffer: dead, broken or late at the moment of a takeover, full of clients, out of disk."""

import os
import re
import signal
import time

from c8_links import HOLDER, STANDBY
from mmhalab import net
from mmhalab.hold import held
from mmhalab.lab import together
from mmhalab.measure import Helper, Measure
from mmhalab.sh import ensure, wait_for

COUNT = "SELECT COUNT(*) FROM shop.numbered"


def both_boxes_lose_power_together(lab):
    """Both boxes lose power at once under load and are switched on together: one of them serves, without a command, and has every row: crash
    recovery keeps what the peer has not taken over without."""
    first, second = lab.pair()
    with Measure(lab) as load:
        together(first.power_off, second.power_off)
        back = time.monotonic()
        together(first.boot, second.boot)
        load.probe.wait_ack(back, 60, "a read after the power is back")
        load.writer.wait_ack(back, 60, "a write after the power is back")
        took = time.monotonic() - back
        lab.wait_steady(120)
        figures = load.finish()
    figures.ensure_safe()
    return f"serving {took:.1f} s after the power is back, {figures}"


def only_the_older_returns(lab):
    """The standby loses power, the holder goes on alone, then loses power too; only the old standby returns. It waits (rule 14) rather than
    serve old data; when the other one returns, it serves what was acknowledged last."""
    first, second = lab.pair()
    with Measure(lab) as load:
        second.power_off()
        alone = time.monotonic()
        load.writer.wait_ack(alone + 4, 30, "the holder to go on alone", HOLDER)
        first.power_off()
        wall = time.time()
        second.boot()
        told = second.wait_event(wall, 14, "it may hold newer data", 45)
        ensure(f"Start {HOLDER}" in told, f"no remedy in \"{told}\"")
        ensure(not second.holds_vip() and second.state() == "boot", "the old standby serves old data")
        back = time.monotonic()
        first.boot()
        load.probe.wait_ack(back, 60, "a read after the newer node is back")
        load.writer.wait_ack(back, 60, "a write after the newer node is back")
        lab.wait_steady(120)
        figures = load.finish()
    figures.ensure_safe()
    return str(figures)


def kill_server_for_good(box):
    """It dies and systemd may not start it again."""
    box.sh(f"systemctl mask --runtime {box.unit}")
    os.kill(box.mysqld_pid(), signal.SIGKILL)


def revive_server(box):
    box.sh(f"systemctl unmask --runtime {box.unit}; systemctl reset-failed {box.unit}; systemctl start {box.unit}", 60)
    box.wait_sql()


def server_of_the_standby_dead_at_takeover(lab):
    """The standby's server is dead when the holder loses power: nobody serves, and the standby says why. Its server comes back without what
    it had received and not applied (MariaDB throws that away), so it does not serve alone either; the holder returns and does, with every row."""
    first, second = lab.pair()
    with Measure(lab) as load:
        load.writer.wait_ack(load.start + 1, 20, "some rows")
        load.writer.stop()
        wait_for(lambda: first.sql(COUNT) == second.sql(COUNT), 10, "the last row on both nodes")
        wall = time.time()
        kill_server_for_good(second)
        first.power_off()
        second.wait_event(wall, 93, "My server is dead")
        wait_for(lambda: not second.status()["peer"]["echo"], 5, "db-01 to be silent")
        ensure(not second.holds_vip(), "a node without a server took the address")
        revive_server(second)
        second.wait_event(wall, 24, "mmha switchover --force")
        ensure(not second.holds_vip(), "a node that may lack rows took the address")
        back = time.monotonic()
        first.boot()
        load.probe.wait_ack(back, 60, "a read after the holder is back", HOLDER)
        took = time.monotonic() - back
        lab.wait_steady(120)
        figures = load.finish()
    figures.ensure_safe()
    return f"serving {took:.1f} s after the holder was switched on, {figures}"


def applier_broken_at_power_loss(lab):
    """The standby's applier has stopped with an error (a row that should not be there) when the holder loses power: the standby does not
    take over what it has not applied, and says so. The holder comes back; if its crash recovery took away what only the standby's relay
    log still has, nobody serves. The operator repairs the applier, and all is well: nothing is lost, whoever serves."""
    first, second = lab.pair()
    with Measure(lab) as load:
        row = max(a.number for a in load.writer.acks()) + 200
        second.sql(f"SET sql_log_bin=0; INSERT INTO shop.numbered (writer, n) VALUES ('{load.writer.label}', {row})")
        second.wait_warning("replication: 1062")
        load.writer.wait_ack(time.monotonic() + 0.5, 20, "writes to go on", HOLDER)
        wall = time.time()
        first.power_off()
        broken = time.monotonic()
        said = second.wait_event(wall, 38, "Not everything that was received")
        wait_for(lambda: time.monotonic() > broken + 5, 6, "more than a deadtime")
        ensure(not second.holds_vip(), "the standby serves although it has not applied everything")
        first.boot()
        wait_for(lambda: first.state() in ("standby", "active") and second.status()["peer"]["echo"], 20, "db-01 to be back")
        second.sql(f"SET sql_log_bin=0; DELETE FROM shop.numbered WHERE writer='{load.writer.label}' AND n={row}; SET sql_log_bin=1; START SLAVE SQL_THREAD")
        repaired = time.monotonic()
        load.probe.wait_ack(repaired, 40, "a read after the repair")
        load.writer.wait_ack(repaired, 40, "a write after the repair")
        took = time.monotonic() - repaired
        lab.wait_steady(120)
        figures = load.finish()
    figures.ensure_safe()
    return f"\"{said[:90]}…\", serving {took:.1f} s after the repair, {figures}"


def relay_log_behind_at_power_loss(lab):
    """The standby has received seconds of writes that a lock keeps it from applying when the holder loses power. It waits, and says for how
    much; when the lock goes, it applies everything and only then serves. Nothing is lost."""
    first, second = lab.pair()
    with Measure(lab) as load:
        lock = hold_table(second)
        held = time.monotonic()
        load.writer.wait_ack(held + 4, 20, "writes during the lock", HOLDER)
        wall = time.time()
        first.power_off()
        broken = time.monotonic()
        said = second.wait_event(wall, 38, "to go")
        wait_for(lambda: time.monotonic() > broken + 6, 7, "the takeover to be overdue")
        ensure(not second.holds_vip(), "the standby serves although it has not applied everything")
        second.sql(f"KILL {lock}")
        freed = time.monotonic()
        load.wait_served_by(STANDBY, freed, 20)
        took = time.monotonic() - freed
        survivor = {a.number for a in load.writer.acks() if a.acked < broken}
        rows = {int(n) for n in second.sql(f"SELECT n FROM shop.numbered WHERE writer='{load.writer.label}'").split()}
        ensure(survivor <= rows, f"{len(survivor - rows)} acknowledged rows are not on the survivor")
        first.boot()
        lab.wait_steady(120)
        figures = load.finish()
    figures.ensure_safe()
    return f"\"{said[-40:]}\", serving {took:.2f} s after the lock went, {figures}"


def rows_arrive_after_the_proof(lab):
    """The holder's agent is dead, its server lives and is closed over SQL. Between the standby's proof, which had everything applied, and its
    opening a last row arrives (root's, whom read-only does not stop) and a lock keeps it from being applied: the thread that opens stood still
    for that moment. It looks again, refuses and says why; when the lock goes, the row is applied and the standby serves."""
    first, second = lab.pair()
    program = first.root / "usr/sbin/mmha"
    with Measure(lab) as load:
        load.writer.wait_ack(load.start + 1, 20, "some rows")
        load.writer.stop()
        wait_for(lambda: first.sql(COUNT) == second.sql(COUNT), 10, "the last row on both nodes")
        lock, late = hold_table(second), f"late {load.writer.label}"
        wall = time.time()
        with held(second.agent_pid(), "role"):
            os.rename(program, program.with_suffix(".away"))
            os.kill(first.agent_pid(), signal.SIGKILL)
            second.wait_event(wall, 46, "Opening the server")
            last = first.sql(f"INSERT INTO shop.numbered (writer, n) VALUES ('{late}', 1); SELECT @@last_gtid")
            wait_for(lambda: last in received(second), 2, "the row in the relay log")
            ensure(second.state() == "open", f"too late: the standby is {second.state()}")
        said = second.wait_event(wall, 45, "has been received and is not applied yet: not opening the server")
        ensure(second.sql("SELECT @@read_only") == "1" and not second.holds_vip(), "the standby serves although it has not applied everything")
        second.wait_event(wall, 38, "1 transaction")
        second.sql(f"KILL {lock}")
        freed = time.monotonic()
        load.probe.wait_ack(freed, 20, "a read after the lock went", STANDBY)
        took = time.monotonic() - freed
        ensure(second.sql(f"SELECT COUNT(*) FROM shop.numbered WHERE writer='{late}'") == "1", "the late row is missing")
        os.rename(program.with_suffix(".away"), program)
        lab.wait_steady(120)
        figures = load.finish()
    figures.ensure_safe()
    return f"\"{said}\", serving {took:.2f} s after the lock went, {figures}"


def hold_table(box):
    """Nothing is applied to the application's table until the returned session is killed."""
    box.sh(f"({box.client} -uroot -e 'LOCK TABLES shop.numbered READ; SELECT SLEEP(3600)' >/dev/null 2>&1 &)")
    return wait_for(lambda: box.sql("SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"), 5, "the lock")


def received(box):
    """The last transaction received of each domain, as GTIDs."""
    return re.search(r"Gtid_IO_Pos: (\S*)", box.sh([box.client, "-uroot", "-e", "SHOW REPLICA STATUS\\G"]))[1].split(",")


class Crowd(Helper):
    """Opens connections to the VIP until the server refuses, and keeps them."""

    SCRIPT = ("import pymysql, sys, time\nkept = []\nwhile True:\n    try:\n        kept.append(pymysql.connect(host=sys.argv[1], user='app', "
              "password='app-password', connect_timeout=2))\n    except Exception as error:\n        print('full', len(kept), error, flush=True)\n        time.sleep(0.05)\n")

    def __init__(self, directory):
        super().__init__(directory, "crowd", ["-c", self.SCRIPT, net.VIP], net.CLIENT_NS)

    def wait_full(self):
        return wait_for(lambda: any(f[0] == "full" and "1040" in " ".join(f) for f in self.lines()), 30, "error 1040, too many connections")


def connections_exhausted(lab):
    """Clients use up every connection of the holder's server for 8 s: no false failover, status stays right; a switchover works all the same,
    and the other node serves."""
    first, second = lab.pair()
    with Measure(lab) as load:
        crowd = load._add(Crowd(lab.directory))
        crowd.wait_full()
        full = time.monotonic()
        wait_for(lambda: time.monotonic() > full + 8, 9, "eight seconds")
        ensure([names for _, names in load.holders()] == [[HOLDER]], f"the VIP moved: {load.holders()}")
        ensure(first.state() == "active" and first.status()["mysql"]["health"] == "ok", f"status: {first.status()['sentence']}")
        asked = time.monotonic()
        first.mmha("switchover", timeout=60).check()
        load.wait_holder(STANDBY, 20)
        moved = time.monotonic() - asked
        crowd.stop()
        load.wait_served_by(STANDBY, asked, 20)
        lab.wait_steady(60, holder=STANDBY)
        second.mmha("switchover", timeout=60).check()
        lab.wait_steady(60)
        figures = load.finish()
    figures.ensure_safe()
    return f"switchover in {moved:.2f} s with every connection taken, {figures}"


def small_disk(box):
    """The server's datadir moves to a file system with 48 MB to spare. Masked meanwhile: the other node's receiver knocks, and Debian's socket unit
    would start it."""
    box.sh(f"systemctl mask --runtime {box.unit}; systemctl stop {box.unit}", 60)
    used = int(box.sh("du -sm /var/lib/mysql").split()[0])
    box.sh(f"mkdir /mnt/small; mount -t tmpfs -o size={used + 48}m tmpfs /mnt/small && cp -a /var/lib/mysql/. /mnt/small && "
           "chown mysql:mysql /mnt/small && chmod 755 /mnt/small && mount --bind /mnt/small /var/lib/mysql", 60)
    revive_server(box)


def disk_full_on_the_holder(lab):
    """The disk under the holder's datadir fills up under load. Writes must not stand still for ever: the holder hands over, or its server's
    refusal is named. When there is room again, the node comes back in sync, or is quarantined with the commits that waited for room, until the
    operator lets them flow (`mmha rejoin --merge`); not even then if the server has left one of them half written in its binlog, or counted it
    and never wrote it."""
    first, second = lab.pair()
    first.sh("systemctl stop mmha", 60)
    small_disk(first)
    first.sh("systemctl start mmha", 60)
    lab.wait_steady(120)
    try:
        with Measure(lab) as load:
            wall, full = time.time(), time.monotonic()
            first.run("fallocate -l 200M /var/lib/mysql/filler || dd if=/dev/zero of=/var/lib/mysql/filler bs=64k 2>/dev/null", 60)
            load.wait_served_by(STANDBY, full + 1, 60)
            outage, writes = load.outage_since(full)
            said = [text for rule, text in first.events(wall) if rule in (50, 52)]
            ensure(said, "no sentence about the full disk")
            first.sh("rm /var/lib/mysql/filler")
            # A commit that waited for room, acknowledged by nobody, may be finished now: then the node is quarantined with it.
            wait_for(lambda: first.state() == "quarantined" or not lab.steady(), 90, "the node to be back, or quarantined", every=0.2)
            parted = first.state() == "quarantined"
            ended = "quarantined" if parted else "back"
            if parted:
                # The server tries again to write after a minute, and lists no binlog before.
                wait_for(lambda: (first.status()["quarantine"] or {"file": True})["file"], 120, "the extra transactions to be saved")
                merge = first.mmha("rejoin", "--merge", timeout=60)
                parted = merge.rc != 0
                ended = (merge.err if parted else merge.out).strip().splitlines()[-1]
                lost = "half written" in ended or "counted and never written" in ended
                ensure(not parted or lost and "--discard" in ended, f"rejoin ended with {merge.rc}: {ended}")
            if not parted:
                lab.wait_steady(150)
            figures = load.finish(judge=[second] if parted else None)
        figures.ensure_safe()
        return f"\"{said[0]}\", outage {outage:.2f} s (writes {writes:.2f}), {ended}; {figures}"
    finally:
        lab.serving = False
