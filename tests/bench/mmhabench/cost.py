"""What an agent costs while nothing happens: memory, CPU, wakeups, threads, frames on the wire, size, time to be ready.

Read from the agent's control group and its processes, from outside the box; frames are counted at the switch. Refuses to count the server.
"""

import contextlib
import os
import time

from mmhalab import net
from mmhalab.sh import sh, wait_for

REST = 8.0  # after a start or a takeover an agent is busier than at rest
SECONDS = 10.0
COUNTERS = {"datagrams": "meta l4proto { udp, vrrp }", "other": "meta l4proto != { udp, vrrp, tcp }", "arp": "ether type arp", "tcp": "meta l4proto tcp"}


def pause(seconds):
    """The length of a measurement."""
    end = time.monotonic() + seconds
    wait_for(lambda: time.monotonic() >= end, seconds + 1, "the end of the measurement", every=0.5)


def cost(agent):
    """Samples of both boxes, holder first, at rest and without load."""
    pause(REST)
    boxes = agent.lab.boxes
    with counted([box.name for box in boxes]) as frames:
        before = [usage(box, agent.unit) for box in boxes]
        start, frames_before = time.monotonic(), frames()
        pause(SECONDS)
        after = [usage(box, agent.unit) for box in boxes]
        took, frames_after = time.monotonic() - start, frames()
    found = []
    for box, old, new in zip(boxes, before, after):
        sample = {"node": "holder" if box.holds_vip() else "standby", "cpu": (new["cpu"] - old["cpu"]) / took * 100}
        sample["wakeups"] = sum(count - old["switches"].get(thread, 0) for thread, count in new["switches"].items()) / took
        sample |= {key: new[key] for key in ("rss", "pss", "threads", "processes", "program")} | {"ready": ready(box, agent.unit)}
        for key, value in frames_after[box.name].items():
            sample[key] = (value - frames_before[box.name][key]) / took
        found.append(sample)
    return found


def usage(box, unit):
    """Of all processes of the unit at this moment; times and switches are running totals."""
    group = next(path for path in box.cgroup.rglob(f"{unit}.service") if (path / "cpu.stat").exists())
    sample = {"cpu": int((group / "cpu.stat").read_text().split()[1]) / 1e6, "switches": {}, "rss": 0, "pss": 0, "processes": 0}
    programs = {}
    for pid in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):  # a child that has just ended
            sample["rss"] += field(f"/proc/{pid}/status", "VmRSS")
            sample["pss"] += field(f"/proc/{pid}/smaps_rollup", "Pss")
            for thread in os.listdir(f"/proc/{pid}/task"):
                sample["switches"][thread] = field(f"/proc/{pid}/task/{thread}/status", "voluntary_ctxt_switches")
            program = os.stat(f"/proc/{pid}/exe")
            programs[program.st_ino] = program.st_size
            sample["processes"] += 1
    return sample | {"threads": len(sample["switches"]), "program": sum(programs.values())}


def field(path, name):
    with open(path) as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


def ready(box, unit):
    """Seconds from the start of the program to its word that it is ready; None when it never says so."""
    wanted = ("Type", "ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic")
    shown = dict(line.split("=", 1) for line in box.sh(["systemctl", "show", "-p", ",".join(wanted), unit]).splitlines())
    return (int(shown[wanted[2]]) - int(shown[wanted[1]])) / 1e6 if shown["Type"] == "notify" else None


@contextlib.contextmanager
def counted(names):
    """Count what leaves each box at the switch; yields a function that reads {name: {frames and bytes by kind}}."""
    script = ["add table bridge bench", "add chain bridge bench in { type filter hook prerouting priority -300; }"]
    for name in names:
        for key, match in COUNTERS.items():
            script += [f"add counter bridge bench {name}-{key}", f'add rule bridge bench in iifname "{name}" {match} counter name {name}-{key}']
    enter = ["nsenter", f"--net={net.netns(net.LAN)}", "nft"]
    sh([*enter, "-f", "-"], stdin="\n".join(script) + "\n")

    def read():
        totals = {name: {} for name in names}
        for line in sh([*enter, "list", "counters", "table", "bridge", "bench"]).split("counter ")[1:]:
            words = line.split()
            name, _, key = words[0].rpartition("-")
            totals[name] |= {key: int(words[words.index("packets") + 1]), key + "_bytes": int(words[words.index("bytes") + 1])}
        return totals

    try:
        yield read
    finally:
        sh([*enter, "delete", "table", "bridge", "bench"])
