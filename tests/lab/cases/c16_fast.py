"""A pair with etc/fast.toml's timing: a deadtime of a tenth of a second."""

import os
import signal
import subprocess
import sys
import time

from mmhalab import net
from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for

FAST = {"keepalive": "19ms", "deadtime": "100ms", "gate": "70ms"}
BUSY_S = 20


def _fast_pair(lab):
    first, second = lab.pair()
    lab.serving = False
    config = first.root / "etc/mmha/mmha.toml"
    kept = [line for line in config.read_text().splitlines() if line.split(" = ")[0] not in FAST]
    timing = "\n".join(f'{key} = "{value}"' for key, value in FAST.items())
    text = "\n".join(kept).replace("[heartbeat]", f"[heartbeat]\n{timing}").replace("[mysql]", '[mysql]\nhang = "300ms"')
    config.write_text(text + "\n")
    lab.copy_config(first, second)
    for box in (second, first):
        box.sh(["systemctl", "restart", "mmha"], 60)
    lab.wait_steady()
    return first, second


def fast_pair_through_the_usual_faults(lab):
    """Keepalive 19 ms, deadtime 100 ms: the holder loses its power, its server and its life as a service; each time the other node serves
    within a fraction of a second, and nothing acknowledged is lost."""
    first, second = _fast_pair(lab)
    faults = [
        ("power", first.power_off, first.boot, 0.13),
        ("killed", lambda: os.kill(first.mysqld_pid(), signal.SIGKILL), lambda: first.wait_sql(60), 0.05),
        ("stop", lambda: first.sh(["systemctl", "stop", "mmha"], 60), lambda: first.sh(["systemctl", "start", "mmha"], 60), 0.03),
    ]
    told = []
    for name, fault, repair, target in faults:
        with Measure(lab) as load:
            load.writer.wait_ack(load.start + 0.5, 20, "some rows")
            broken = time.monotonic()
            fault()
            load.wait_served_by("db-02", broken, 20)
            outage, writes = load.outage_since(broken)
            repair()
            load.wait_holder("db-01", 150)
            lab.wait_steady()
            figures = load.finish()
        figures.ensure_safe()
        ensure(outage <= 1, f"outage {outage:.2f} s after {name} with a deadtime of 100 ms")
        lab.figure(f"{name}, fast", outage, target)
        told.append(f"{name} {outage:.3f} s (writes {writes:.3f})")
    return ", ".join(told)


def fast_pair_loses_its_cable(lab):
    """The holder is cut off before its agent has looked at its server again: commits that wait there are met while it is closed, and dropped.
    It comes back by itself."""
    first, _ = _fast_pair(lab)
    told = []
    for _ in range(2):
        with Measure(lab, writers=3) as load:
            broken = time.monotonic()
            net.set_cable(first.name, "down")
            load.wait_served_by("db-02", broken, 20)
            outage, writes = load.outage_since(broken)
            net.set_cable(first.name, "up")
            load.wait_holder("db-01", 90)
            lab.wait_steady()
            figures = load.finish()
        figures.ensure_safe()
        ensure(outage <= 1, f"outage {outage:.2f} s with a deadtime of 100 ms")
        lab.figure("cable, fast", outage, 0.15)
        told.append(f"{outage:.3f} s (writes {writes:.3f})")
    return ", ".join(told)


def fast_pair_cut_in_two(lab):
    """Not a frame passes between the nodes, clients reach both, and nobody can ask an arbiter: both serve, as the manual says. Clients follow the
    one that took over and stay with it, during the cut and at the heal; the few rows that were on their way are saved and named."""
    first, second = _fast_pair(lab)
    with Measure(lab) as load:
        load.writer.wait_ack(load.start + 6, 20, "the address to have been announced for the last time")
        broken = time.monotonic()
        net.drop(['iifname "db-01" oifname "db-02"', 'iifname "db-02" oifname "db-01"'])
        load.wait_served_by("db-02", broken, 5)
        load.writer.wait_ack(broken + 8, 20, "the old holder to have had the time for another announcement")
        outage, writes = load.outage_since(broken)
        healed = time.monotonic()
        lab.heal()
        wait_for(lambda: first.state() == "quarantined", 20, "the old holder to be quarantined")
        load.writer.wait_ack(healed + 3, 20, "writes to go on after the heal", "db-02")
        heal_outage, heal_writes = load.outage_since(healed)
        load.finish(judge=[second])
    strays = [ack for ack in load.writer.acks() if ack.sent > broken + 1.5 and ack.server != "db-02"]
    ensure(not strays, f"{len(strays)} rows went to the old holder after clients had been led to the new one")
    ensure(max(outage, writes, heal_outage, heal_writes) <= 1, f"outage {outage:.2f} s, writes {writes:.2f} s; healed {heal_outage:.2f} s, writes {heal_writes:.2f} s")
    saved = int(first.sh("grep -c '^### INSERT' /var/lib/mmha/quarantine/*.sql || true").strip() or 0)
    return f"outage {outage:.3f} s (writes {writes:.3f}), healed {heal_outage:.3f} s (writes {heal_writes:.3f}); {saved} rows saved"


def fast_pair_on_a_busy_machine(lab):
    """Every core is busy with a loop at normal priority, and clients write: the address does not move."""
    _fast_pair(lab)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        with Measure(lab) as load:
            busy = time.monotonic()
            wait_for(lambda: time.monotonic() > busy + BUSY_S, BUSY_S + 5, "the busy time to pass")
            outage, writes = load.outage_since(busy)
            figures = load.finish()
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    figures.ensure_safe()
    ensure(all(names == ["db-01"] for _, names in figures.holders), f"the address moved on a busy machine: {figures.holders}")
    lab.wait_steady()
    return f"longest gap in {BUSY_S} s: reads {outage:.3f} s, writes {writes:.3f} s"
