"""One case being played on one pair: faults and repairs in phases, each watched until it is over, each one sample.

Refuses to wait for ever: what has not come back after 15 s beyond the agent's own patience is "none".
"""

import contextlib
import random
import time

from mmhalab.sh import LabError, wait_for

from .watch import Load, from_now, last_answer

PATIENCE = 15.0  # seconds in which something must have happened, beyond the silence that the agent waits for
RETURN = 75.0  # the same for the way home: Heartbeat restarts both sides, keepalived's clients wait for their neighbour entry to age
LASTING = 5.0
SETTLING = 5.0  # after nodes hear each other again: Heartbeat goes on for 2 s before it restarts
ASKING = 3.0  # an agent that asks for a person for so long will not go on by itself
PHASE = 1.0  # a fault comes at a random moment of this stretch: in step with the agents' own clocks it would always meet them at the same one
UNSENT = 0.5  # rows acknowledged this shortly before a count are not counted


class Stage:
    def __init__(self, agent):
        self.agent, self.lab = agent, agent.lab
        self.first, self.second = self.lab.boxes
        self.samples, self.load, self.notes = [], None, []
        self.asking_since = None

    @property
    def silence(self):
        return self.agent.variant.silence

    @property
    def lasting(self):
        """How long a fault lasts that clients may not notice at once: as long as the agent needs to notice, and some seconds more."""
        return self.silence * 1.2 + LASTING

    def fault(self, row, act, least=0.0, patience=None):
        """Break something; watch for `least` seconds and until clients are served steadily, or until patience ends: by default what an agent
        may take to notice a node's silence, and the time to do something about it."""
        self._phase(row, act, least, patience or self.silence * 1.5 + PATIENCE, lambda: True, last_answer)

    def home(self, row, act, least=0.5):
        """Repair it and watch until db-01 alone holds the address and serves, or the agent asks for a person; then everything acknowledged
        must be there. Where nobody serves before, the time counts from the repair."""
        origin = from_now if self.samples and self.samples[-1]["open"] else last_answer
        self._home(row, act, least, origin)

    def begin(self, row, act):
        """The same from nothing: nobody serves before."""
        self._home(row, act, 0.5, from_now)

    def _home(self, row, act, least, origin):
        self._phase(row, act, least, RETURN, lambda: self.is_home() or self.asks(), origin)
        self.agent.catch_up()
        sample = self.samples[-1]
        sample["home"] = self.is_home()
        server = next((box for box in self.lab.boxes if box.name == self.load.server()), self.first)
        sample["lost"] = self.lost(server, 25 if sample["home"] else 0)

    def is_home(self):
        return self.load.holding() == ("db-01",) and self.load.server() == "db-01"

    def asks(self):
        """Whether the agent has said for a while that an operator must decide."""
        self.asking_since = (self.asking_since or time.monotonic()) if self.agent.asks() else None
        return self.asking_since is not None and time.monotonic() - self.asking_since >= ASKING

    def _phase(self, row, act, least, bound, settled, origin):
        time.sleep(random.uniform(0, PHASE))
        start = time.monotonic()
        act()
        with contextlib.suppress(LabError):
            wait_for(lambda: time.monotonic() - start >= least and self.load.calm(start) and settled(), bound, "the service", every=0.1)
        end = time.monotonic()
        figures = self.load.count(start, end, origin)
        serving = next((box for box in self.lab.boxes if box.name == figures["server"]), None)
        figures["lost"] = None if figures["open"] or serving is None else self.lost(serving, 0, end - UNSENT)
        self.samples.append({"row": row, "watched": end - start, **figures})

    def lost(self, box, bound, until=None):
        """How many acknowledged rows the box's server does not show (`bound`: seconds for replication to deliver them); None if it does not answer."""
        left = None

        def all_there():
            nonlocal left
            shown = box.sql(f"SELECT n FROM shop.numbered WHERE writer='{self.load.label}'", 10).split()
            left = len(self.load.acknowledged(until or time.monotonic() - UNSENT) - set(map(int, shown)))
            return left == 0

        with contextlib.suppress(LabError):
            wait_for(all_there, bound, "every acknowledged row", every=0.3)
        return left

    def note(self, text):
        """Something a reader should know of this case with this agent."""
        self.notes.append(text)


def play(agent, case):
    """Play a case on a pair at rest; returns its samples, and whether the pair is at rest again, if need be with a person's help."""
    stage = Stage(agent)
    started = time.monotonic()
    with Load(agent.lab) as load:
        stage.load = load
        case.act(stage)
    rested = at_rest(stage)
    for sample in stage.samples:
        sample["took"] = time.monotonic() - started
        if stage.notes:
            sample["notes"] = stage.notes
    return stage.samples, rested


def at_rest(stage):
    agent = stage.agent
    if stage.samples[-1].get("home"):
        with contextlib.suppress(LabError):
            agent.wait_rest(30)
            return True
    stage.note("by hand")
    agent.lab.heal()
    try:
        for box in (box for box in agent.lab.boxes if not box.powered):
            box.power_off()
            box.boot()
        agent.mend()
    except LabError as error:
        stage.note(f"new pair: {error}")
        return False
    return True
