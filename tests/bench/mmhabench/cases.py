"""The cases: what happens to the pair, in the words of the table. db-01 holds the address when each begins, and again when it ends.

A case is a function of a stage; each of its phases is a row. Refuses to know which agent it is played with.
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import Callable

from mmhalab import net
from mmhalab.lab import together
from mmhalab.sh import wait_for

from .stage import PATIENCE, SETTLING

ROWS = {
    "power-loss": "power loss of the holder",
    "power-back": "… its return (failback)",
    "server-killed": "database server SIGKILLed",
    "server-killed-back": "… it runs again (failback)",
    "server-hung": "database server hung (SIGSTOP)",
    "server-hung-back": "… SIGCONT (failback)",
    "cable-pulled": "cable pulled at the holder",
    "cable-back": "… plugged in again",
    "agent-stopped": "planned stop of the agent",
    "agent-started": "… started again (failback)",
    "cut-ip": "nodes cannot exchange IP packets, both see the LAN",
    "cut-ip-healed": "… healed",
    "cut-all": "nodes cannot exchange any frame (port isolation), both see the LAN",
    "cut-all-healed": "… healed",
    "agent-killed": "agent SIGKILLed",
    "agent-killed-back": "… runs again",
    "agent-frozen": "agent SIGSTOPped for 10 s",
    "agent-frozen-back": "… SIGCONT",
    "behind": "power loss, standby 3 s behind",
    "behind-back": "… its return (failback)",
    "start": "both agents started, to serving",
}


@dataclass(frozen=True)
class Case:
    name: str
    act: Callable


def power_loss(stage):
    stage.fault("power-loss", stage.first.power_off)
    stage.home("power-back", stage.first.boot)


def server_killed(stage):
    pid = stage.first.mysqld_pid()
    stage.fault("server-killed", lambda: os.kill(pid, signal.SIGKILL), least=1, patience=PATIENCE)
    stage.home("server-killed-back", stage.first.wait_sql)  # systemd starts it again after 5 s


def server_hung(stage):
    pid = stage.first.mysqld_pid()

    def go_on():
        with contextlib.suppress(ProcessLookupError):  # an agent may have killed it
            os.kill(pid, signal.SIGCONT)
        stage.first.wait_sql()

    stage.fault("server-hung", lambda: os.kill(pid, signal.SIGSTOP), least=1, patience=PATIENCE)
    stage.home("server-hung-back", go_on)


def cable(stage):
    stage.fault("cable-pulled", lambda: net.set_cable("db-01", "down"))
    stage.home("cable-back", lambda: net.set_cable("db-01", "up"), SETTLING)


def planned_stop(stage):
    stage.fault("agent-stopped", lambda: stage.first.sh(["systemctl", "stop", stage.agent.unit]))
    stage.home("agent-started", lambda: stage.first.sh(["systemctl", "start", stage.agent.unit]))


def _cut(stage, row, what):
    """What goes wrong lasts as long as the cut."""
    frames = [f'iifname "{a}" oifname "{b}" {what}'.strip() for a, b in (("db-01", "db-02"), ("db-02", "db-01"))]
    stage.fault(row, lambda: net.drop(frames), least=stage.lasting)
    stage.home(f"{row}-healed", net.heal, SETTLING)


def cut_ip(stage):
    _cut(stage, "cut-ip", "ether type ip")


def cut_all(stage):
    _cut(stage, "cut-all", "")


def agent_killed(stage):
    stage.fault("agent-killed", lambda: stage.agent.signal(stage.first, "KILL"), least=stage.lasting)
    stage.home("agent-killed-back", lambda: stage.first.sh(["systemctl", "start", stage.agent.unit]), SETTLING)


def agent_frozen(stage):
    stage.fault("agent-frozen", lambda: stage.agent.signal(stage.first, "STOP"), least=10)
    stage.home("agent-frozen-back", lambda: stage.agent.signal(stage.first, "CONT"), SETTLING)


def behind(stage):
    """Whether an agent starts replication again by itself in these 3 s is its own affair."""
    stage.second.sql("STOP SLAVE")
    stopped = time.monotonic()
    wait_for(lambda: time.monotonic() - stopped >= 3, 4, "three seconds")
    stage.fault("behind", stage.first.power_off)
    stage.home("behind-back", stage.first.boot)


def start(stage):
    """From the same moment on both; nobody serves before."""
    for box in (stage.second, stage.first):
        box.sh(["systemctl", "stop", stage.agent.unit], 100)
    wait_for(lambda: not stage.load.holding(), 20, "nobody to hold the VIP")
    stage.begin("start", lambda: together(*(lambda box=box: box.sh(["systemctl", "start", stage.agent.unit], 100) for box in stage.lab.boxes)))


CASES = tuple(Case(name, act) for name, act in (
    ("power-loss", power_loss), ("server-killed", server_killed), ("server-hung", server_hung), ("cable-pulled", cable),
    ("planned-stop", planned_stop), ("cut-ip", cut_ip), ("cut-all", cut_all), ("agent-killed", agent_killed), ("agent-frozen", agent_frozen),
    ("behind", behind), ("start", start)))
