"""The raw samples in one JSON file, one sample a line, so that tables can be made again without running anything.

What is measured anew replaces the samples of the same agent and case; the rest stays, so that a table can be measured in parts. Refuses
to mix machines.
"""

import json
import os
import platform
from datetime import date
from pathlib import Path

from mmhalab.sh import LabError

NAME = "samples.json"
PARTS = ("outages", "costs", "busy")


def empty(machine):
    return {"machine": machine, "versions": {}, **{part: [] for part in PARTS}}


def machine():
    """The size of this machine."""
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal"))
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {"cores": os.cpu_count(), "memory": f"{memory / 1024 / 1024:.0f} GB", "processor": model, "kernel": platform.release().split("-")[0]}


def load(directory):
    path = Path(directory) / NAME
    if not path.exists():
        raise LabError(f"no samples in {directory}: run tests/bench/run first")
    return json.loads(path.read_text())


def begin(directory):
    """What the file in `directory` has so far, or nothing."""
    here = machine()
    if not (Path(directory) / NAME).exists():
        return empty(here)
    found = load(directory)
    if found["machine"] != here:
        raise LabError(f"{directory} has samples of another machine ({found['machine']}): choose another --out")
    return found


def forget(found, part, agent, case=None):
    found[part] = [s for s in found[part] if s["agent"] != agent or (case is not None and s["case"] != case)]


def add(found, part, samples, **common):
    found[part] += [{**common, "date": date.today().isoformat(), **{key: rounded(value) for key, value in sample.items()}} for sample in samples]


def rounded(value):
    return round(value, 3) if isinstance(value, float) else value


def save(found, directory):
    """Whole or not at all: a run may be interrupted at any time."""
    path = Path(directory) / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {key: found[key] for key in found if key not in PARTS}
    text = json.dumps(head)[:-1]
    for part in PARTS:
        text += f',\n"{part}": [\n' + ",\n".join(json.dumps(sample) for sample in found[part]) + "]"
    fresh = path.with_suffix(".new")
    fresh.write_text(text + "}\n")
    fresh.rename(path)
