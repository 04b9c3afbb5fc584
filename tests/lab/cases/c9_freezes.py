"""What stands still and comes back, and what others do to our rules. One pair for all; each case ends with db-01 serving again."""

import contextlib
import os
import signal
import time

from c2_faults import lose_and_return, told
from c8_links import HOLDER, STANDBY, stays
from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for


def holder_box_frozen_and_thawed(lab):
    """Every process of the holder stands still for 10 s, its kernel goes on answering. Its leases end without its help and the other node
    serves; thawed, it lets go before it believes anything, and comes back in sync."""
    wall, started = time.time(), time.monotonic()

    def thaw(box):
        wait_for(lambda: time.monotonic() >= started + 10, 11, "ten seconds")
        box.thaw()

    result = lose_and_return(lab, lambda box: box.freeze(), thaw, 9, direct=True)
    lab.box(STANDBY).wait_event(wall, 35, "All proof is there: db-01 is gone")
    return told(*result)


def standby_box_frozen_and_thawed(lab):
    """Every process of the standby stands still for 10 s: the address stays, writes go on without it, and it comes back in sync."""
    first, second = lab.pair()

    def seen(_wall):
        first.wait_warning("unprotected: acknowledged writes exist on this node only")

    return stays(lab, second.freeze, second.thaw, seen, seconds=10)


def stop_agent(box):
    pid = box.agent_pid()
    os.kill(pid, signal.SIGSTOP)
    return pid


def continue_agent(pid):
    with contextlib.suppress(ProcessLookupError):  # systemd's watchdog may have been faster
        os.kill(pid, signal.SIGCONT)


def holder_agent_frozen_and_continued(lab):
    """The holder's agent alone stands still for 4.5 s, and systemd has no watchdog here that would end it. The gate ends first: from then on no write is
    acknowledged on the floating or the node's own address; after the takeover none on its unix socket either. Continued, it says so."""
    first, second = lab.pair()
    with Measure(lab, direct=[first]) as load:
        first.sh("systemctl service-watchdogs no")
        wall, broken = time.time(), time.monotonic()
        pid = stop_agent(first)
        try:
            load.wait_served_by(STANDBY, broken, 20)
            outage, writes = load.outage_since(broken)
            local = first.run([first.client, "-uapp", "-papp-password", "-e", "INSERT INTO shop.numbered (writer, n) VALUES ('socket', 1)"], 5)
            ensure(not local.ok, "the old holder took a write over its unix socket after the takeover")
            wait_for(lambda: time.monotonic() > broken + 4.5, 5, "the end of the freeze")
        finally:
            thawed = time.monotonic()
            continue_agent(pid)
        first.wait_event(wall, 1, "I stood still for")
        first.sh("systemctl service-watchdogs yes")
        second.wait_event(wall, 28, "db-01 is silent")
        load.wait_holder(HOLDER, 120)
        lab.wait_steady()
        late = [a for c in load.clients() for a in c.acks() if a.server == HOLDER and broken + 1.7 < a.acked < thawed]
        figures = load.finish()
    figures.ensure_safe()
    ensure(not late, f"acknowledged by the frozen node after its gate's end: {late[:3]}")
    ensure(outage <= 8, f"outage {outage:.2f} s")
    return f"outage {outage:.2f} s (writes {writes:.2f}), {figures}"


def standby_agent_frozen_and_continued(lab):
    """The standby's agent alone stands still for 4.5 s: nothing moves, and writes are still copied."""
    frozen = []
    return stays(lab, lambda: frozen.append(stop_agent(lab.box(STANDBY))), lambda: continue_agent(frozen[0]),
                 lambda _wall: lab.box(HOLDER).wait_warning("db-02 is not heard"), write_bound=1, seconds=4.5)


def rules_stand(box):
    gate = box.run("nft list table inet mmha").out
    chain = box.run("iptables -S INPUT 1; iptables -S MMHA-IN").out
    return gate.count('comment "mmha: ') >= 10 and "-j MMHA-IN" in chain and chain.count("ACCEPT") >= 3


def rules_flushed_by_somebody_else(lab):
    """Somebody flushes all nftables rules of the holder, then all iptables rules: each time ours are put back within 15 s, the log says so,
    and the address stays."""
    first, _ = lab.pair()
    took = []
    with Measure(lab) as load:
        for command, words in (("nft flush ruleset", "the write gate was flushed by somebody else"), ("iptables -F", "firewall rules put in place")):
            ensure(rules_stand(first), "our rules are not there to begin with")
            wall, start = time.time(), time.monotonic()
            first.sh(command)
            wait_for(lambda: rules_stand(first), 15, f"our rules to be back after {command}", every=0.05)
            took.append(time.monotonic() - start)
            wait_for(lambda: first.said_in_syslog(wall, words), 3, f"\"{words}\" in the log")
        load.wait_served_by(HOLDER, time.monotonic(), 5)
        outage = load.outage_since(load.start)[0]
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == [HOLDER] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure(outage <= 1, f"outage {outage:.2f} s")
    return f"back after {took[0]:.2f} s and {took[1]:.2f} s, outage {outage:.2f} s, {figures}"


def without_nf_tables(lab):
    """The nft program is gone on both nodes and the service starts anew: status says that there is no write gate, and the takeover from a
    frozen agent waits for the address lease instead, so that there is still one holder at any time."""
    first, second = lab.pair()
    for box in (second, first):
        box.sh("nft delete table inet mmha; mv /usr/sbin/nft /usr/sbin/nft.away; systemctl restart mmha", 60)
        lab.wait_steady()
    try:
        for box in lab.boxes:
            box.wait_warning("no write gate: nftables does not work here")
            said = box.mmha("status")
            ensure(said.rc == 4 and "no write gate" in said.out, f"status at {box.name} ended with {said.rc}:\n{said.out}")
        frozen = []
        result = lose_and_return(lab, lambda box: frozen.append(stop_agent(box)), lambda _box: continue_agent(frozen[0]), 9)
        ensure(result[0] >= 0.9, "the takeover did not wait for the lease")
    finally:
        for box in (second, first):
            box.sh("mv /usr/sbin/nft.away /usr/sbin/nft; systemctl restart mmha", 60)
            with contextlib.suppress(Exception):
                lab.wait_steady()
    lab.wait_steady()
    return told(*result)
