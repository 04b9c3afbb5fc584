"""A pair of MySQL 9.7 servers (Debian sid): other statements, same story."""

import time

from mmhalab import net
from mmhalab.measure import Helper, Measure
from mmhalab.sh import ensure, wait_for


def mysql_pair_serves_and_survives(lab):
    """MySQL 9.7: bootstrap, a row through the floating address on both nodes, power loss of the holder, its return and failback.
    No write is in flight at the moment of the loss: MySQL keeps such a transaction at crash recovery, and mmha then rightly quarantines the node."""
    first, second = lab.pair("mysql")
    version = first.sql("SELECT @@version")
    with Measure(lab) as load:
        load.writer.wait_ack(load.start + 1, 20, "rows through the floating address")
        load.writer.stop()
        count = "SELECT COUNT(*) FROM shop.numbered"
        wait_for(lambda: first.sql(count) == second.sql(count), 10, "the last row on both nodes")
        broken = time.monotonic()
        first.power_off()
        load.probe.wait_ack(broken, 40, "a read through the VIP answered by db-02", "db-02")
        outage = load.probe.outage(broken, time.monotonic())[0]
        lab.client("INSERT INTO shop.numbered (writer, n) VALUES ('hand', 97)").check()
        ensure(not load.finish(judge=[second]).missing, "acknowledged rows are missing on the survivor")
    with Measure(lab) as load:
        back = time.monotonic()
        first.boot()
        load.wait_holder("db-01", 180)
        load.wait_served_by("db-01", back, 30)
        home, _ = load.outage_since(back)
        lab.wait_steady(120)
        figures = load.finish()
    figures.ensure_safe()
    ensure(outage <= 5, f"outage {outage:.2f} s")
    return f"{version}: outage {outage:.2f} s, failback {home:.2f} s, {figures}"


class Holdout(Helper):
    """Locks the application's table through the VIP and does not let go."""

    SCRIPT = ("import pymysql, sys\nc = pymysql.connect(host=sys.argv[1], user='app', password='app-password').cursor()\n"
              "c.execute('LOCK TABLES shop.numbered WRITE')\nprint('locked', flush=True)\nc.execute('SELECT SLEEP(600)')\n")

    def __init__(self, directory):
        super().__init__(directory, "holdout", ["-c", self.SCRIPT, net.VIP], net.CLIENT_NS)


def mysql_without_performance_schema(lab):
    """MySQL with performance_schema = OFF lists its sessions in the older place only. A client with a table lock stands in the way of a
    switchover: its session is found and ended there, and the other node serves."""
    boxes = lab.fresh("mysql")
    first, _ = boxes
    for box in boxes:
        (box.root / "etc/mysql/conf.d/quiet.cnf").write_text("[mysqld]\nperformance_schema = OFF\n")
        box.sh(["systemctl", "restart", box.unit])
        box.wait_sql()
        ensure(box.sql("SELECT @@performance_schema, (SELECT COUNT(*) FROM performance_schema.processlist)") == "0\t0", "it is on")
    lab.configure()
    for result in lab.bootstrap():
        result.check()
    lab.start_agents()
    lab.wait_steady(90)
    lab.make_application()
    holdout = Holdout(lab.directory)
    try:
        wait_for(holdout.lines, 10, "the lock")
        asked = time.monotonic()
        first.mmha("switchover", timeout=60).check()
        lab.wait_steady(60, "db-02")
        took = time.monotonic() - asked
        left = "SELECT COUNT(*) FROM information_schema.processlist WHERE user='app'"
        wait_for(lambda: first.sql(left) == "0", 5, "the client's session to end")
    finally:
        holdout.stop()
    return f"moved and steady {took:.1f} s after the request"
