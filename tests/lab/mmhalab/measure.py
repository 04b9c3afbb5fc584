"""What clients saw while something happened: outage, write outage, acknowledged rows that are missing, seconds with two holders.

Starts the client and sampler processes, reads what they wrote, and judges. Refuses to guess: an acknowledged row counts as
missing unless a server shows it.
"""

import contextlib
import itertools
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from . import net
from .sh import LabError, ensure, promised, wait_for

HERE = Path(__file__).parent
counter = itertools.count(1)


@dataclass(frozen=True)
class Ack:
    number: int
    sent: float
    acked: float
    server: str


class Helper:
    """One client or sampler process; its lines are in a file that can be read while it runs."""

    def __init__(self, directory, name, argv, inside=None):
        self.path = directory / f"{name}.{next(counter)}.log"
        enter = ["nsenter", f"--net={net.netns(inside)}"] if inside else []
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen([*enter, "/usr/bin/python3", "-u", *map(str, argv)], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def lines(self):
        return [line.split(" ", 4) for line in self.path.read_text(errors="replace").splitlines()]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)  # every line was flushed when it was written
        self.process.wait(10)


class Client(Helper):
    """A writer or probe against one address."""

    def __init__(self, directory, kind, host, label, **options):
        self.kind, self.host, self.label = kind, host, label
        extra = [part for key, value in options.items() for part in (f"--{key}", value)]
        super().__init__(directory, f"{kind}-{label}", [HERE / "client.py", kind, "--host", host, "--label", label, *extra], net.CLIENT_NS)

    def acks(self):
        return [Ack(int(f[1]), float(f[2]), float(f[3]), f[4]) for f in self.lines() if f[0] == "a" and len(f) == 5]

    def errors(self):
        return [(float(f[2]), " ".join(f[3:])) for f in self.lines() if f[0] == "e" and len(f) > 3]

    def wait_ack(self, since, bound, what, server=None):
        """Wait for a success that began after `since` (at `server`, when given)."""
        return wait_for(lambda: [a for a in self.acks() if a.sent > since and server in (None, a.server)], bound, what)[0]

    def outage(self, since, until):
        """The longest time without a success between two moments at which things went well, and when it began."""
        times = [a.acked for a in self.acks()]
        before = [t for t in times if t <= since][-1:]
        marks = [*(before or [since]), *[t for t in times if since < t <= until], until]
        gap, start = max((b - a, a) for a, b in itertools.pairwise(marks))
        return gap, start


@dataclass
class Figures:
    """The result of one measured stretch. All times in seconds."""

    outage: float
    write_outage: float
    acked: int
    missing: list
    two_holders: float
    holders: list  # (time, [names]) at each change
    stray: list  # rows acknowledged by one node while the other alone held the VIP

    def __str__(self):
        return f"{self.acked} rows acknowledged, {len(self.missing)} missing, two holders {self.two_holders:.2f} s"

    def ensure_safe(self):
        """The promises that no fault may break."""
        promised(not self.missing, f"{len(self.missing)} acknowledged rows are missing, e.g. (server, writer, number) {self.missing[:8]}")
        promised(self.two_holders == 0, f"two holders of the VIP for {self.two_holders:.3f} s: {self.holders}")
        promised(not self.stray, f"{len(self.stray)} rows acknowledged by a node while the other held the VIP, e.g. {self.stray[:3]}")


class Measure:
    """Load and observation through the VIP for the length of a `with` block.

    direct: boxes (writable ones) that also get a writer straight to their own address. writers: how many write through the VIP.
    """

    def __init__(self, lab, direct=(), writers=1):
        self.lab, self.direct_boxes, self.writer_count = lab, direct, writers
        self.helpers, self.direct = [], {}

    def __enter__(self):
        lab, directory = self.lab, self.lab.directory
        names = [box.name for box in lab.boxes]
        self.sampler = self._add(Helper(directory, "sampler", [HERE / "sampler.py", ",".join(lab.vips), *names]))
        self.probe = self._add(Client(directory, "probe", net.VIP, "probe", every=0.01))
        self.writers = [self._add(Client(directory, "writer", net.VIP, f"vip{next(counter)}")) for _ in range(self.writer_count)]
        self.writer = self.writers[0]
        for box in self.direct_boxes:
            self.direct[box.name] = self._add(Client(directory, "writer", box.address, f"own{next(counter)}", limit=0.3))
        started = time.monotonic()
        for client in (self.probe, *self.writers, *self.direct.values()):
            client.wait_ack(started, 20, f"the first answer of {client.host} to the {client.kind}")
        self.start = time.monotonic()
        return self

    def __exit__(self, *_):
        for helper in self.helpers:
            helper.stop()

    def _add(self, helper):
        self.helpers.append(helper)
        return helper

    def holders(self):
        """[(time, names)] at each change, oldest first."""
        return [(float(f[0]), [] if f[1] == "-" else f[1].split(",")) for f in self.sampler.lines() if len(f) == 2]

    def taken_over_at(self, name, since):
        """When `name` was first seen holding the VIP after `since`."""
        return next((t for t, names in self.holders() if t > since and name in names), None)

    def wait_holder(self, name, bound):
        return wait_for(lambda: self.holders()[-1][1] == [name], bound, f"{name} alone to hold the VIP")

    def wait_served_by(self, name, since, bound):
        """Both a read and an acknowledged write through the VIP, answered by `name`."""
        self.probe.wait_ack(since, bound, f"a read through the VIP answered by {name}", name)
        return self.writer.wait_ack(since, bound, f"a write through the VIP acknowledged by {name}", name)

    def outage_since(self, since):
        until = time.monotonic()
        return self.probe.outage(since, until)[0], self.writer.outage(since, until)[0]

    def clients(self):
        return (*self.writers, *self.direct.values())

    def stray(self, spans):
        """Acknowledgements of a node for rows sent while the other node alone was seen holding the VIP."""
        acks = [a for client in self.clients() for a in client.acks()]
        alone = [(start, end, names[0]) for start, end, names in spans if len(names) == 1]
        return [a for a in acks if any(start < a.sent and a.acked < end and a.server != name for start, end, name in alone)]

    def finish(self, since=None, judge=None):
        """Stop the load and count. `judge`: the boxes that must have every acknowledged row (default: all that run)."""
        until = time.monotonic()
        for helper in self.helpers:
            helper.stop()
        since = self.start if since is None else since
        missing, clients = set(), self.clients()
        for box in judge or [b for b in self.lab.boxes if b.powered]:
            for client in clients:
                missing |= {(box.name, client.label, n) for n in missing_rows(box, client)}
        changes = [*self.holders(), (until, [])]
        spans = [(start, end, names) for (start, names), (end, _) in itertools.pairwise(changes)]
        return Figures(
            outage=self.probe.outage(since, until)[0],
            write_outage=self.writer.outage(since, until)[0],
            acked=sum(len(c.acks()) for c in clients),
            missing=sorted(missing),
            two_holders=sum(end - start for start, end, names in spans if len(names) > 1),
            holders=changes[:-1],
            stray=self.stray(spans),
        )


def missing_rows(box, client, bound=20):
    """Acknowledged numbers that the box's server does not show; replication gets `bound` seconds to deliver the last ones."""
    wanted = {a.number for a in client.acks()}
    left = wanted

    def all_there():
        nonlocal left
        rows = box.sql(f"SELECT n FROM shop.numbered WHERE writer='{client.label}'").split()
        left = wanted - {int(n) for n in rows}
        return not left

    with contextlib.suppress(LabError):
        wait_for(all_there, bound, "replication", every=0.2)
    return left
