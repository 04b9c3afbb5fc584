"""What breaks at the holder: power, its server, its agent. One pair for all; each case ends with db-01 serving again."""

import contextlib
import os
import signal
import threading
import time

from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for


def lose_and_return(lab, fault, repair, outage_bound, direct=False, writers=1, lasting=0, home_bound=None):
    """Break db-01 under load, see db-02 serve for `lasting` seconds at least, repair, see db-01 serve again, with writes standing still for
    `home_bound` at most; returns (outage, write outage, failback outage, figures)."""
    first, second = lab.pair()
    with Measure(lab, direct=[first] if direct else [], writers=writers) as load:
        broken = time.monotonic()
        fault(first)
        load.wait_served_by("db-02", broken, 40)
        if lasting:
            load.writer.wait_ack(broken + lasting, lasting + 20, "writes without the first node", "db-02")
        outage, writes = load.outage_since(broken)
        back = time.monotonic()
        repair(first)
        load.wait_holder("db-01", 150)
        load.wait_served_by("db-01", back, 30)
        home, home_writes = load.outage_since(back)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(outage <= outage_bound, f"outage {outage:.2f} s, more than {outage_bound} s")
    ensure(home_bound is None or home_writes <= home_bound, f"writes stood still for {home_writes:.2f} s at the return")
    return outage, writes, home, figures


def told(outage, writes, home, figures):
    return f"outage {outage:.2f} s (writes {writes:.2f}), failback {home:.2f} s, {figures}"


def power_loss_of_the_holder(lab):
    """The holder loses power under load. The other node serves after the deadtime; the dead one is switched on again, catches up,
    and takes the address back. Nothing acknowledged is lost."""
    result = lose_and_return(lab, lambda box: box.power_off(), lambda box: box.boot(), 5)
    lab.figure("power loss", result[0], 3)
    return told(*result)


def power_loss_under_heavy_load(lab):
    """As before with five writers at once, whose commits wait for a copy that reaches nobody any more: the dead node has them in its binlog,
    acknowledged by nobody. Its crash recovery drops them, or they would keep it out."""
    first, second = lab.pair()
    stream = f"INPUT -p tcp -s {first.address} --sport 3306 -j DROP"

    def fault(box):
        second.sh(f"iptables -I {stream}")
        try:
            time.sleep(0.3)
            box.power_off()
        finally:
            second.sh(f"iptables -D {stream}")

    result = lose_and_return(lab, fault, lambda box: box.boot(), 6, writers=5)
    said = first.sh(f"journalctl -b -u {first.unit} -o cat")
    ensure("crash recovery drops what was not acknowledged: db-02 has taken over" in said, f"its server was told otherwise:\n{said}")
    return told(*result)


def power_loss_of_the_standby(lab):
    """The standby loses power: the address stays, writes go on after the agent gave up waiting for the copy, and it comes back in sync."""
    _, second = lab.pair()
    with Measure(lab) as load:
        broken = time.monotonic()
        second.power_off()
        load.writer.wait_ack(broken + 8, 30, "writes to go on without the standby", "db-01")
        outage, writes = load.outage_since(broken)
        second.boot()
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == ["db-01"] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure(outage <= 1 and writes <= 5, f"outage {outage:.2f} s, writes {writes:.2f} s")
    return f"outage {outage:.2f} s (writes {writes:.2f}), {figures}"


def kill_mysqld(lab):
    """The holder's server dies. Its agent sees the hang-up at once and lets the other node serve; systemd restarts the server."""
    result = lose_and_return(lab, lambda box: os.kill(box.mysqld_pid(), signal.SIGKILL), lambda box: box.wait_sql(60), 1.5)
    lab.figure("mysqld killed", result[0], 0.5)
    return told(*result)


def hang_mysqld(lab):
    """The holder's server hangs (SIGSTOP). status answers at once all the same; the other node serves; SIGCONT brings db-01 back.
    A write that hung in the stopped server must not be acknowledged by it later, and a client that waits for an answer is told."""
    stopped, told_after = [], []

    def ask():
        asked = time.monotonic()
        answer = lab.client("SELECT SLEEP(30)", bound=40)
        told_after.append((time.monotonic() - asked, answer.err))

    def fault(box):
        waiting = threading.Thread(target=ask)
        waiting.start()
        wait_for(lambda: "SLEEP(30)" in box.sql("SHOW FULL PROCESSLIST"), 10, "a client to wait for an answer")
        stopped.append(box.mysqld_pid())
        os.kill(stopped[0], signal.SIGSTOP)
        waiting.join(15)
        ensure(told_after and told_after[0][0] < 5, f"a client of the hung server was not told in time: {told_after or 'not within 15 s'}")
        ensure("Lost connection" in told_after[0][1] or "reset" in told_after[0][1], f"what that client was told: {told_after[0][1]}")

    def repair(box):
        start = time.monotonic()
        box.status()
        ensure(time.monotonic() - start < 1, f"status took {time.monotonic() - start:.2f} s while the server hangs")
        with contextlib.suppress(ProcessLookupError):  # an agent may have killed it
            os.kill(stopped[0], signal.SIGCONT)

    result = lose_and_return(lab, fault, repair, 6, direct=True)
    return f"{told(*result)}; a waiting client was told after {told_after[0][0]:.1f} s"


def kill_the_agent(lab):
    """The holder's agent is killed. systemd starts it again at once and it adopts its leases: the address does not move."""
    first, _ = lab.pair()
    with Measure(lab, direct=[first]) as load:
        for _ in range(3):
            broken = time.monotonic()
            old = first.agent_pid()
            os.kill(old, signal.SIGKILL)
            wait_for(lambda: first.agent_pid() not in (0, old), 10, "systemd to restart the agent")
            wait_for(lambda: first.state() == "active", 20, "the new agent to be active")
            load.wait_served_by("db-01", time.monotonic(), 10)
        outage, writes = load.outage_since(load.start)
        load.writer.wait_ack(broken + 4, 20, "writes past the deadtime", "db-01")
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == ["db-01"] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure(outage <= 1, f"outage {outage:.2f} s at an agent's restart")
    return f"outage {outage:.2f} s (writes {writes:.2f}) in three kills, {figures}"


def freeze_the_agent(lab):
    """The holder's agent is frozen (SIGSTOP): its leases end by themselves. Never two holders, and no write is acknowledged by the old
    node after the takeover, also not on connections to its own address. Thawed, it must do no harm."""
    frozen = []

    def fault(box):
        frozen.append(box.agent_pid())
        os.kill(frozen[0], signal.SIGSTOP)

    def repair(_box):
        with contextlib.suppress(ProcessLookupError):  # systemd's watchdog may have been faster
            os.kill(frozen[0], signal.SIGCONT)

    return told(*lose_and_return(lab, fault, repair, 8, direct=True))


def agent_dies_for_good(lab):
    """The holder's agent is killed and cannot start again: the leases end without anybody's doing and the other node serves."""

    def fault(box):
        os.rename(box.root / "usr/sbin/mmha", box.root / "usr/sbin/mmha.away")
        os.kill(box.agent_pid(), signal.SIGKILL)

    def repair(box):
        os.rename(box.root / "usr/sbin/mmha.away", box.root / "usr/sbin/mmha")

    return told(*lose_and_return(lab, fault, repair, 8, direct=True))
