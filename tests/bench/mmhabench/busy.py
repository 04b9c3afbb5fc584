"""Whether a busy machine is taken for a dead one: a loop on every core at normal priority beside a write load, for minutes, and nothing may move."""

import os
import subprocess
import sys
import time

from mmhalab.sh import LabError, wait_for

from .watch import Load, last_answer


def busy(agent, minutes):
    """One sample; the pair is at rest before."""
    loops = []
    with Load(agent.lab) as load:
        start = time.monotonic()
        try:
            loops += [subprocess.Popen([sys.executable, "-c", "while True: pass"], stdin=subprocess.DEVNULL) for _ in range(os.cpu_count())]
            end = start + minutes * 60
            wait_for(lambda: time.monotonic() >= end, minutes * 60 + 60, "the end of the busy time", every=2)
        finally:
            for loop in loops:
                loop.kill()
                loop.wait(10)
        until = time.monotonic()
        figures = load.count(start, until, last_answer)
        moves = [names for when, names in load.holders.read() if start < when <= until]
        rows = len(load.acknowledged(until))
    return {"minutes": (until - start) / 60, "moves": len(moves), "rows": rows, "overruns": overruns(agent), **figures}


def overruns(agent):
    """What each agent's status says about turns of its loops that came late, if it says anything."""
    if agent.variant.kind != "mmha":
        return None
    found = {}
    for box in agent.lab.boxes:
        try:
            said = list(numbers(box.status()))
        except LabError:
            continue
        found |= {f"{box.name} {name}": value for name, value in said if any(word in name for word in ("overrun", "late", "stall"))}
    return found or None


def numbers(status, path=""):
    """Every number in a status, with its path."""
    for key, value in status.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{path}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{path}{key}", value
