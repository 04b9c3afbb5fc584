"""A pair with etc/fast.toml's timing: a deadtime of a tenth of a second."""

import os
import signal
import subprocess
import sys
import time

from mmhalab import net
from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for

FAST = {"keepalive": "20ms", "deadtime": "100ms"}
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
    """Keepalive 20 ms, deadtime 100 ms: the holder loses its power, its server and its life as a service; each time the other node serves
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
