"""Load on the pair and what clients see of it: the lab's probe, writer and sampler, read while they write.

Times are CLOCK_MONOTONIC in seconds. Refuses to call a service back before it has been steady for a while.
"""

import itertools
import time

from mmhalab import measure, net
from mmhalab.measure import Client, Helper
from mmhalab.sh import wait_for

EVERY = 0.005  # a new connection and a query, and a row, this often
CALM = 1.0  # so long without a gap means: it serves again
GAP = 0.25  # a gap, for that purpose
OPEN = 0.9  # a silence at the end of the watch that is longer than this is an outage that has not ended


class Tail:
    """What a helper has written so far, parsed once."""

    def __init__(self, helper, parse):
        self.helper, self.parse = helper, parse
        self.file = open(helper.path, errors="replace")
        self.rest, self.found = "", []

    def read(self):
        text = self.rest + self.file.read()
        *lines, self.rest = text.split("\n")
        self.found += filter(None, map(self.parse, lines))
        return self.found


def answer(line):
    """A line of a client: (number, when it was answered, by whom)."""
    words = line.split(" ", 4)
    return (int(words[1]), float(words[3]), words[4]) if words[0] == "a" and len(words) == 5 else None


def held(line):
    words = line.split(" ")
    return (float(words[0]), () if words[1] == "-" else tuple(words[1].split(","))) if len(words) == 2 else None


class Load:
    """Probe, writer and sampler for the length of a `with` block."""

    def __init__(self, lab):
        self.lab = lab

    def __enter__(self):
        directory = self.lab.directory
        names = [box.name for box in self.lab.boxes]
        self.label = f"bench{next(measure.counter)}"
        self.helpers = [Helper(directory, "sampler", [measure.HERE / "sampler.py", net.VIP, *names]),
                        Client(directory, "probe", net.VIP, "probe", every=EVERY), Client(directory, "writer", net.VIP, self.label, every=EVERY)]
        self.holders, self.probe, self.writer = map(Tail, self.helpers, (held, answer, answer))
        self.born = time.monotonic()
        try:
            wait_for(lambda: self.calm(self.born), 30, "clients to be served", every=0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for helper in self.helpers:
            helper.stop()
        for tail in (self.holders, self.probe, self.writer):
            tail.file.close()

    def calm(self, since):
        """Whether both clients have been served without a gap for a while, all of it after `since`."""
        now = time.monotonic()
        return now - since >= CALM and all(longest(tail.read(), now - CALM, now)[0] <= GAP for tail in (self.probe, self.writer))

    def server(self):
        """Who answered the last probe."""
        answers = self.probe.read()
        return answers[-1][2] if answers else None

    def holding(self):
        found = self.holders.read()
        return found[-1][1] if found else ()

    def acknowledged(self, until):
        return {number for number, when, _ in self.writer.read() if when <= until}

    def count(self, since, until, origin):
        """The figures of one stretch."""
        outage, is_open = longest(self.probe.read(), since, until, origin)
        write_outage, write_open = longest(self.writer.read(), since, until, origin)
        return {"outage": outage, "open": is_open, "write_outage": write_outage, "write_open": write_open,
                "two": self.held_by(lambda names: len(names) > 1, since, until), "server": self.server()}

    def held_by(self, wanted, since, until):
        changes = [*self.holders.read(), (until, ())]
        spans = ((max(start, since), min(end, until), names) for (start, names), (end, _) in itertools.pairwise(changes))
        return sum(end - start for start, end, names in spans if end > start and wanted(names))


def last_answer(before, _since):
    """An outage begins with the last answer before it."""
    return before[-1]


def from_now(_before, since):
    """Nobody served before: it begins when something is done about it."""
    return since


def longest(answers, since, until, origin=last_answer):
    """The longest time without an answer that reaches into [since, until], and whether it was still open at the end."""
    times = []
    for _, when, _ in reversed(answers):
        if when <= until:
            times.append(when)
        if when <= since:
            break
    before = sorted(when for when in times if when <= since)
    after = sorted(when for when in times if when > since)
    marks = [origin(before, since) if before else since, *after, until]
    gap = max(b - a for a, b in itertools.pairwise(marks))
    return gap, until - marks[-2] > OPEN
