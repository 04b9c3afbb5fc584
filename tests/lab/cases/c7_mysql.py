"""A pair of MySQL 9.7 servers (Debian sid): other statements, same story."""

import time

from mmhalab.measure import Measure
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
