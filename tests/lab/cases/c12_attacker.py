"""An attacker on the LAN who records heartbeats and has no key."""

import os
import time

from c8_links import HOLDER, HOLDER_IP, STANDBY, STANDBY_IP
from mmhalab import net
from mmhalab.measure import HERE, Measure
from mmhalab.sh import ensure, run

ATTACKER = HERE / "attacker.py"


def cpu_seconds(pid):
    """User and system time of all threads of the process."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def attack(lab, record, kind, target, source, rate, seconds):
    """Send for so long; returns (datagrams a second, share of a core that the target's agent used)."""
    pid = lab.box(target).agent_pid()
    before, start = cpu_seconds(pid), time.monotonic()
    argv = ["/usr/bin/python3", ATTACKER, "send", record, kind, dict(net.NODES)[target], source, rate, seconds]
    sent = int(run(["nsenter", f"--net={net.netns(net.CLIENT_NS)}", *argv], seconds + 30).check().out)
    took = time.monotonic() - start
    return sent / seconds, (cpu_seconds(pid) - before) / took


def attacker_with_recorded_heartbeats(lab):
    """Recorded heartbeats are sent to both nodes again, forged, truncated, oversized, and as noise; then each kind that costs the most as a
    flood of 20,000 a second for 5 s. The address does not move, no agent uses a quarter of a core, and the nodes still hear each other."""
    lab.pair()
    record = lab.directory / "recorded"
    run(["nsenter", f"--net={net.netns(net.LAN)}", "/usr/bin/python3", ATTACKER, "capture", HOLDER, 4, record], 20).check()
    ensure(len(record.read_text().splitlines()) >= 20, "too few heartbeats were recorded")
    said = []
    with Measure(lab) as load:
        for target, source in ((HOLDER, STANDBY_IP), (STANDBY, HOLDER_IP)):
            attack(lab, record, "all", target, source, 500, 2)
            for kind in ("forged", "replayed"):
                rate, share = attack(lab, record, kind, target, source, 20_000, 5)
                said.append(f"{target} {kind} {rate:.0f}/s: {share * 100:.0f} %")
                ensure(rate > 10_000, f"the attacker managed {rate:.0f} datagrams a second only")
                ensure(share < 0.25, f"the agent of {target} used {share * 100:.0f} % of a core at {rate:.0f} {kind} datagrams a second")
                for box in lab.boxes:
                    ensure(box.status()["peer"]["echo"], f"{box.name} has lost its peer to the flood")
        load.wait_served_by(HOLDER, time.monotonic(), 10)
        outage = load.outage_since(load.start)[0]
        lab.wait_steady(30)
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == [HOLDER] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    return f"{'; '.join(said)}; outage {outage:.2f} s, {figures}"
