"""bootstrap: again, interrupted, and refusing what it must refuse. Fresh boxes for each."""

from mmhalab import net
from mmhalab.sh import ensure, wait_for

FRAGMENT = {"mariadb": "etc/mysql/mariadb.conf.d/zz-mmha.cnf", "mysql": "etc/mysql/mysql.conf.d/zz-mmha.cnf"}


def fragment(box):
    return box.root / FRAGMENT[box.flavor]


def all_succeed(lab, what, *extra):
    for box, result in zip(lab.boxes, lab.bootstrap(*extra)):
        ensure(result.ok, f"{what}: bootstrap at {box.name} ended with {result.rc}:\n{result.out}{result.err}")


def fingerprint(box):
    """Everything a second bootstrap must leave alone."""
    accounts = box.sql("SELECT user, host, authentication_string FROM mysql.user ORDER BY 1, 2")
    stat = fragment(box).stat()
    return {"server process": box.mysqld_pid(), "fragment": (stat.st_mtime_ns, stat.st_ino, fragment(box).read_text()), "accounts": accounts,
            "firewall": box.run("iptables -S MMHA-IN").out}


def bootstrap_twice(lab):
    """A dry run changes nothing at all; the second bootstrap says so and changes nothing either."""
    first, _ = lab.fresh()
    lab.configure()
    before = first.sql("SELECT user, host FROM mysql.user ORDER BY 1, 2"), first.mysqld_pid()
    dry = first.mmha("bootstrap", "--dry-run", timeout=60)
    ensure(dry.rc == 0, f"the dry run ended with {dry.rc}:\n{dry.out}{dry.err}")
    ensure(not fragment(first).exists(), "the dry run wrote the fragment")
    ensure(before == (first.sql("SELECT user, host FROM mysql.user ORDER BY 1, 2"), first.mysqld_pid()), "the dry run changed the server")
    password = (first.root / "etc/mmha/replication.password").read_text().strip()
    ensure(password not in dry.out + dry.err, "the dry run shows the replication password")
    all_succeed(lab, "first")
    marks = [fingerprint(box) for box in lab.boxes]
    all_succeed(lab, "second")
    for box, mark in zip(lab.boxes, marks):
        changed = [key for key, value in fingerprint(box).items() if value != mark[key]]
        ensure(not changed, f"the second bootstrap changed at {box.name}: {changed}")
    lab.start_agents()
    lab.wait_steady()


def bootstrap_interrupted_and_resumed(lab):
    """bootstrap is killed on one node or both at many moments; run again, it goes on and ends with a pair that serves."""
    lab.fresh()
    lab.configure()
    moments = (0.05, 0.15, 0.3, 0.5, 0.8, 1.2, 1.8, 2.5, 3.5, 5.0)
    for turn, moment in enumerate(moments):
        victims = [lab.boxes[turn % 2]] if turn % 3 else lab.boxes
        for box in lab.boxes:
            limit = moment if box in victims else 8.0
            # The box's own timeout(1) is the killer: it dies with the box and hits within milliseconds.
            box.run(f"(timeout -s KILL {limit} mmha bootstrap --timeout 8s >/root/bootstrap.log 2>&1; echo done >/root/bootstrap.done) &", 20)
        for box in lab.boxes:
            wait_for(lambda box=box: box.exists("root/bootstrap.done"), 30, f"the interrupted bootstrap of {box.name} to end")
            (box.root / "root/bootstrap.done").unlink()
            box.wait_sql()
    all_succeed(lab, "after the interruptions")
    lab.start_agents()
    lab.wait_steady()
    lab.make_application()
    return f"killed at {len(moments)} moments"


def _refused(lab, *words, rc=None, extra=("--timeout", "20s")):
    """bootstrap must fail on at least one node, and what it prints must contain the words; returns everything printed."""
    results = lab.bootstrap(*extra)
    said = "\n".join(f"[{box.name}: {r.rc}]\n{r.out}{r.err}" for box, r in zip(lab.boxes, results))
    ensure(any(not r.ok for r in results), f"bootstrap succeeded on both although it must not:\n{said}")
    ensure(all(r.rc != 124 for r in results), f"bootstrap did not end by itself:\n{said}")
    if rc is not None:
        ensure(any(r.rc == rc for r in results), f"no exit code {rc}:\n{said}")
    missing = [word for word in words if word.lower() not in said.lower()]
    ensure(not missing, f"bootstrap does not mention {missing}:\n{said}")
    return said


def wrong_replication_password(lab):
    """The password files differ. bootstrap says so instead of retrying for ever; with the right file it goes on."""
    first, second = lab.fresh()
    lab.configure()
    (second.root / "etc/mmha/replication.password").write_text("something-else-entirely\n")
    said = _refused(lab, "password")
    ensure("something-else-entirely" not in said, "a password is shown")
    lab.copy_config(first, second)
    all_succeed(lab, "with the right password")


def same_server_id(lab):
    """Both servers end up with the same id because a later file of the user's overrides ours on db-02: found, with the file's name.
    The same ids in mmha.toml are refused as configuration."""
    first, second = lab.fresh()
    lab.configure()
    override = second.root / "etc/mysql/mariadb.conf.d/zzz-user.cnf"
    override.write_text("[mysqld]\nserver_id = 1\n")
    _refused(lab, "server_id", "zzz-user.cnf")
    override.unlink()
    all_succeed(lab, "without the override")
    config = first.root / "etc/mmha/mmha.toml"
    good = config.read_text()
    lines = [line for line in good.splitlines() if not line.split("=")[0].strip(" #") == "server_id"]
    config.write_text("\n".join(lines).replace("[[node]]", "[[node]]\nserver_id = 7") + "\n")
    check = first.mmha("check")
    ensure(check.rc == 3 and "server_id" in check.out + check.err, f"check ended with {check.rc}:\n{check.out}{check.err}")
    config.write_text(good)


def port_3306_blocked(lab):
    """Something between the nodes drops tcp 3306 towards db-02: bootstrap and check name the port; once it is open, all goes well."""
    first, second = lab.fresh()
    lab.configure()
    net.drop([f"ip daddr {second.address} tcp dport 3306"])
    _refused(lab, "3306", second.address)
    check = first.mmha("check", timeout=60)
    ensure(check.rc != 0 and "3306" in check.out + check.err, f"check ended with {check.rc}:\n{check.out}{check.err}")
    lab.heal()
    all_succeed(lab, "with the port open")


def two_different_data_sets(lab):
    """Both nodes already hold data, and not the same: bootstrap refuses, lists what differs, and touches nothing."""
    for box, word in zip(lab.fresh(), ("apples", "pears")):
        box.sql(f"CREATE DATABASE {word}; CREATE TABLE {word}.t (id INT PRIMARY KEY); INSERT INTO {word}.t VALUES (1), (2)")
    lab.configure()
    _refused(lab, "apples", "pears", rc=5)
    for box, mine, others in zip(lab.boxes, ("apples", "pears"), ("pears", "apples")):
        ensure(box.sql(f"SELECT COUNT(*) FROM {mine}.t") == "2", f"{box.name} lost its own data")
        ensure(others not in box.sql("SHOW DATABASES").split(), f"{box.name} got the other node's data")


def server_refuses_the_fragment(lab):
    """With our fragment the server does not start (the user's own drop-in sees to that): the file is taken back and the server is up again."""
    first, _ = lab.fresh()
    lab.configure()
    dropin = first.root / f"etc/systemd/system/{first.unit}.service.d/picky.conf"
    dropin.parent.mkdir()
    dropin.write_text(f"[Service]\nExecStartPre=/bin/sh -c '! test -e /{FRAGMENT[first.flavor]}'\nRestart=no\n")
    first.sh("systemctl daemon-reload")
    result = first.mmha("bootstrap", "--timeout", "20s", timeout=120)
    ensure(result.rc not in (0, 124), f"bootstrap ended with {result.rc}:\n{result.out}{result.err}")
    ensure(not fragment(first).exists(), "the fragment was left in place")
    first.wait_sql(30)


def different_rows_in_versioned_tables(lab):
    """System versioned tables and sequences are no BASE TABLE, and data all the same: different ones are refused."""
    for number, box in enumerate(lab.fresh()):
        box.sql(f"CREATE DATABASE app; CREATE SEQUENCE app.s; CREATE TABLE app.t (id INT PRIMARY KEY) WITH SYSTEM VERSIONING; INSERT INTO app.t VALUES ({number})")
    lab.configure()
    _refused(lab, "app.t: 1 rows", rc=5)


def server_follows_somebody_else(lab):
    """A server that replicates from a third one keeps doing so: bootstrap refuses before it touches anything."""
    first, _ = lab.fresh()
    first.sql("CHANGE MASTER TO MASTER_HOST='192.0.2.77', MASTER_USER='old', MASTER_PASSWORD='x', MASTER_LOG_FILE='m.000001', MASTER_LOG_POS=4711; START SLAVE")
    lab.configure()
    result = first.mmha("bootstrap", "--timeout", "20s", timeout=60)
    ensure(result.rc == 5 and "192.0.2.77" in result.err, f"bootstrap ended with {result.rc}:\n{result.out}{result.err}")
    ensure(not fragment(first).exists(), "the fragment was written")
    ensure("4711" in first.sql("SHOW SLAVE STATUS"), "the position at the old source is lost")


def interrupted_by_the_operator(lab):
    """Ctrl-C, kill or a closed terminal while it waits for the peer: a server in use is given back writable, its events running. The
    signal comes twice in quick succession, as it does from a closed terminal, timeout(1) or sudo(8)."""
    first, _ = lab.fresh()
    lab.configure()
    for name in ("INT", "TERM", "HUP"):
        first.sql("SET GLOBAL event_scheduler=ON")
        first.sh("rm -f /root/bootstrap.*; (mmha bootstrap >/root/bootstrap.log 2>&1 & echo $! >/root/bootstrap.pid; wait; touch /root/bootstrap.done) >/dev/null 2>&1 &")
        wait_for(lambda: "waiting for db-02" in first.read("root/bootstrap.log"), 60, "bootstrap to wait for its peer")
        first.sh(f"pid=$(cat /root/bootstrap.pid); kill -s {name} $pid; sleep 0.1; kill -s {name} $pid")
        wait_for(lambda: first.exists("root/bootstrap.done"), 30, f"bootstrap to end after SIG{name}")
        said = first.read("root/bootstrap.log")
        ensure("interrupted" in said, f"SIG{name}:\n{said}")
        state = first.sql("SELECT @@read_only, @@event_scheduler").split()
        ensure(state == ["0", "ON"], f"SIG{name} left read_only and event_scheduler {state}:\n{said}")


def server_down_for_another_reason(lab):
    """A fragment that has worked is not what keeps the server down: bootstrap leaves it, or the server would start unsafe one day."""
    first, _ = lab.fresh()
    lab.configure()
    all_succeed(lab, "first")
    first.sh(f"systemctl stop {first.unit}")
    dropin = first.root / f"etc/systemd/system/{first.unit}.service.d/broken.conf"
    dropin.parent.mkdir(exist_ok=True)
    dropin.write_text("[Service]\nExecStartPre=/bin/false\nRestart=no\n")
    first.sh("systemctl daemon-reload")
    result = first.mmha("bootstrap", "--timeout", "10s", timeout=120)
    ensure(result.rc == 1 and "left as it is" in result.err, f"bootstrap ended with {result.rc}:\n{result.out}{result.err}")
    ensure(fragment(first).exists(), "the fragment is gone")
    dropin.unlink()
    first.sh(f"systemctl daemon-reload; systemctl reset-failed {first.unit}; systemctl start {first.unit}")
    first.wait_sql(30)
    ensure(first.sql("SELECT @@read_only") == "1", "the server came up open")


def a_later_file_starts_the_server_open(lab):
    """read_only = 0 in a file after ours: bootstrap and check name it, though the running server shows what the service made of it."""
    first, _ = lab.fresh()
    lab.configure()
    override = first.root / "etc/mysql/mariadb.conf.d/zzz-user.cnf"
    override.write_text("[mysqld]\nread_only = 0\n")
    _refused(lab, "read_only", "zzz-user.cnf:2", rc=5)
    check = first.mmha("mycnf", "check")
    ensure(check.rc == 4 and "zzz-user.cnf:2" in check.out, f"mycnf check ended with {check.rc}:\n{check.out}{check.err}")
    override.unlink()
    all_succeed(lab, "without the override")
