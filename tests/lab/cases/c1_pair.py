"""From two bare boxes to a serving pair, and planned moves."""

import time

from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for


def fresh_pair_to_serving(lab):
    """Two bare Debian boxes: install, init on one, copy /etc/mmha, bootstrap on both at once, start the service. No hand edit.
    A database created through the floating address is on both nodes."""
    started = time.monotonic()
    first, second = lab.fresh()
    for box in lab.boxes:
        ensure(box.run("systemctl is-active mmha").out.strip() == "inactive", f"{box.name}: an unconfigured service runs")
    lab.configure()
    for box, result in zip(lab.boxes, lab.bootstrap()):
        ensure(result.ok, f"bootstrap at {box.name} ended with {result.rc}:\n{result.out}{result.err}")
    lab.start_agents()
    lab.wait_steady(90)
    lab.make_application()
    took = time.monotonic() - started
    lab.client("INSERT INTO shop.numbered (writer, n) VALUES ('hand', 1)").check()
    for box in lab.boxes:
        wait_for(lambda box=box: box.sql("SELECT n FROM shop.numbered WHERE writer='hand'") == "1", 10, f"the row at {box.name}")
    ensure(lab.client("SELECT @@hostname").out.strip() == "db-01", "the preferred node does not serve")
    refused = lab.client("INSERT INTO shop.numbered (writer, n) VALUES ('hand', 2)", host=second.address)
    ensure(not refused.ok, "the standby took a write on its own address")
    lab.serving = True
    return f"from boot to serving {took:.1f} s"


def check_and_status_of_a_healthy_pair(lab):
    """On a healthy pair `check` finds nothing, `status` is green, from both nodes, and the reload keeps everything as it is."""
    for box in lab.pair():
        check = box.mmha("check", timeout=60)
        ensure(check.rc == 0, f"check at {box.name} ended with {check.rc}:\n{check.out}{check.err}")
        status = box.mmha("status")
        ensure(status.rc == 0, f"status at {box.name} ended with {status.rc}:\n{status.out}{status.err}")
        ensure("password" not in status.out.lower(), "status speaks of passwords")
        box.sh(["systemctl", "reload", "mmha"])
    lab.wait_steady(20)


def stop_the_service_on_the_holder(lab):
    """`systemctl stop mmha` on the holder hands over at once: nobody waits for the deadtime, nothing acknowledged is lost."""
    first, _ = lab.pair()
    with Measure(lab) as load:
        moved = time.monotonic()
        first.sh(["systemctl", "stop", "mmha"])
        load.wait_served_by("db-02", moved, 20)
        outage, writes = load.outage_since(moved)
        back = time.monotonic()
        first.sh(["systemctl", "start", "mmha"])
        load.wait_holder("db-01", 120)
        load.wait_served_by("db-01", back, 30)
        home, _ = load.outage_since(back)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(outage <= 1.0, f"outage {outage:.2f} s at a planned stop")
    lab.figure("systemctl stop", outage, 0.3)
    return f"outage {outage:.2f} s (writes {writes:.2f}), failback {home:.2f} s, {figures}"


def switchover_and_back(lab):
    """The operator moves the address to the other node and back, under load; the dry run moves nothing."""
    first, second = lab.pair()
    with Measure(lab) as load:
        ensure(first.mmha("switchover", "--to", "db-02", "--dry-run").rc == 0, "the dry run failed")
        outages = []
        for source, target in ((first, second), (second, first)):
            moved = time.monotonic()
            source.mmha("switchover", "--to", target.name, timeout=60).check()
            load.wait_holder(target.name, 30)
            load.wait_served_by(target.name, moved, 20)
            outages.append(load.outage_since(moved)[0])
            lab.wait_steady(holder=target.name)
        figures = load.finish()
    figures.ensure_safe()
    return f"outages {outages[0]:.2f} and {outages[1]:.2f} s, {figures}"
