"""One-way cuts, loss, dead gateways, and what a client's ARP table says after a heal. One pair for all; each case ends with db-01 serving."""

import time

from c2_faults import lose_and_return, told
from mmhalab import net
from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for

(HOLDER, HOLDER_IP), (STANDBY, STANDBY_IP) = net.NODES


def stays(lab, fault, repair, seen, write_bound=5, seconds=6):
    """Break something that must not move the address; `seen` checks what the operators read meanwhile."""
    lab.pair()
    with Measure(lab) as load:
        wall, broken = time.time(), time.monotonic()
        fault()
        seen(wall)
        load.writer.wait_ack(max(broken + seconds, time.monotonic()), 30, "writes to go on", HOLDER)
        outage, writes = load.outage_since(broken)
        repair()
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == [HOLDER] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure(outage <= 1, f"outage {outage:.2f} s although the holder was reachable")
    ensure(writes <= write_bound, f"writes stood still for {writes:.2f} s")
    return f"outage {outage:.2f} s (writes {writes:.2f}), {figures}"


def heartbeats_of_the_holder_lost(lab):
    """The holder's heartbeats are lost, the standby's arrive. The standby hears nothing, asks the network, and the holder still answers for
    the address: nothing moves, and both sides can read why."""

    def seen(wall):
        lab.box(STANDBY).wait_event(wall, 32, "still answers for 192.0.2.243")
        lab.box(HOLDER).wait_warning("does not hear this node: a one-way cut")

    return stays(lab, lambda: net.drop([f"ip saddr {HOLDER_IP} ip daddr {STANDBY_IP} meta l4proto udp"]), lab.heal, seen)


def heartbeats_of_the_standby_lost(lab):
    """The standby's heartbeats are lost, the holder's arrive: the standby knows that it is not heard, and does not take over."""

    def seen(wall):
        lab.box(STANDBY).wait_event(wall, 25, "it does not hear me: a one-way cut")
        lab.box(HOLDER).wait_warning("db-02 is not heard")

    return stays(lab, lambda: net.drop([f"ip saddr {STANDBY_IP} ip daddr {HOLDER_IP} meta l4proto udp"]), lab.heal, seen)


def cable_of_the_standby_pulled(lab):
    """The standby's cable is pulled: it knows itself cut off, the address stays, and writes go on once the agent has given up the copy."""
    return stays(lab, lambda: net.set_cable(STANDBY, "down"), lambda: net.set_cable(STANDBY, "up"),
                 lambda wall: lab.box(STANDBY).wait_event(wall, 27, "Cut off: cannot tell whether db-01 is alive"))


def gateway_dead_for_both(lab):
    """The ping target dies for both nodes at once: they hear each other, so nothing moves, and status says what is missing."""

    def seen(_wall):
        for box in lab.boxes:
            box.wait_warning("no ping target answers")

    return stays(lab, lambda: net.gateway("del"), lambda: net.gateway("add"), seen, write_bound=1)


def nothing_leaves_the_holder(lab):
    """Every packet of the holder is lost, those to it arrive. The standby claims; the holder hears the claim and yields before it."""
    wall = time.time()
    result = lose_and_return(lab, lambda box: net.drop([f"iifname {box.name}"]), lambda _box: lab.heal(), 8)
    lab.box(HOLDER).wait_event(wall, 11, "db-02 hears nothing of me")
    lab.box(STANDBY).wait_event(wall, 35, "All proof is there")
    return told(*result)


def nothing_reaches_the_holder(lab):
    """Every packet to the holder is lost, its own arrive. It is cut off and lets go. The standby hears it and is not heard, which is no
    ground for a claim (the manual says so): nobody serves until the heal, and then exactly one does, with every row."""
    first, second = lab.pair()
    with Measure(lab) as load:
        wall = time.time()
        net.drop([f"oifname {first.name}"])
        first.wait_event(wall, 5, "Cut off: neither db-02 nor a ping target answers")
        second.wait_event(wall, 25, "it does not hear me")
        wait_for(lambda: load.holders()[-1][1] == [], 5, "the cut-off holder to let go")
        lab.heal()
        healed = time.monotonic()
        load.probe.wait_ack(healed, 30, "reads after the heal")
        load.writer.wait_ack(healed, 30, "writes after the heal")
        back = time.monotonic() - healed
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(back <= 10, f"served only {back:.1f} s after the heal")
    return f"serving {back:.2f} s after the heal, {figures}"


def lossy(lab, percent, seconds):
    """Lose so many frames of a hundred between the nodes, both ways, for so long; at no moment are there two holders, and nothing is lost."""
    lab.pair()
    with Measure(lab) as load:
        broken = time.monotonic()
        net.lose(percent, [f"iifname {a} oifname {b}" for a, b in ((HOLDER, STANDBY), (STANDBY, HOLDER))])
        load.probe.wait_ack(broken + seconds, seconds + 20, "reads to go on")
        lab.heal()
        healed = time.monotonic()
        load.writer.wait_ack(healed, 30, "writes after the heal")
        lab.wait_steady()
        outage = load.probe.outage(broken, healed)[0]
        figures = load.finish()
    figures.ensure_safe()
    moves = sum(names == [STANDBY] for _, names in figures.holders)
    return f"moved {moves} times, outage {outage:.2f} s, {figures}"


def a_third_of_the_packets_lost(lab):
    """30 % of all frames between the nodes are lost, both ways."""
    said = lossy(lab, 30, 15)
    ensure(said.startswith("moved 0 times"), f"30 % loss moved the address: {said}")
    return said


def most_packets_lost(lab):
    """60 % of all frames between the nodes are lost, both ways. Silences of a deadtime occur then; the probes must see the holder."""
    return lossy(lab, 60, 25)


def interface_down_and_up(lab):
    """Somebody takes the holder's interface down, and up again after the takeover: one holder, nothing lost."""

    def up(box):
        box.sh("ip link set eth0 up; ip route replace default via 192.0.2.1")

    wall = time.time()
    result = lose_and_return(lab, lambda box: box.sh("ip link set eth0 down"), up, 6)
    lab.box(HOLDER).wait_event(wall, 5, "Cut off")
    return told(*result)


def believes(load, lab, since, bound):
    """From `since` on, how long until the client's ARP table points to the one holder and stays there for a second. Returns seconds."""
    wrong = since
    while time.monotonic() < max(since + bound, wrong + 1):
        names = load.holders()[-1][1]
        known = net.neighbour(net.CLIENT_NS, net.VIP)
        if [net.mac(name) for name in names] != [known]:
            wrong = time.monotonic()
        ensure(wrong - since <= bound, f"{wrong - since:.1f} s after the heal the client believes {net.VIP} at {known}, the holder is {names}")
        time.sleep(0.01)
    return wrong - since


def clients_find_the_holder_after_a_heal(lab):
    """The holder is cut off by its cable, then by its switch port, and comes back: within a second of the heal the client's ARP entry points
    to the one node that holds the address, and its queries are answered."""
    first, _ = lab.pair()
    figures = []
    for cut, heal in ((lambda: net.set_cable(HOLDER, "down"), lambda: net.set_cable(HOLDER, "up")),
                      (lambda: net.port_leaves_switch(HOLDER), lambda: net.port_joins_switch(HOLDER))):
        with Measure(lab) as load:
            broken = time.monotonic()
            cut()
            load.wait_served_by(STANDBY, broken, 20)
            wait_for(lambda: first.state() == "isolated", 10, "db-01 to know itself cut off")
            healed = time.monotonic()
            heal()
            found = believes(load, lab, healed, 1.0)
            load.wait_served_by(STANDBY, healed, 1.0)
            back = load.wait_served_by(HOLDER, healed, 90).acked
            home = believes(load, lab, back, 1.0)
            lab.wait_steady()
            load.finish().ensure_safe()
        figures.append(f"{found:.2f} s, after the failback {home:.2f} s")
    return f"ARP entry right after the heal of the cable {figures[0]}; of the switch port {figures[1]}"
