"""Cables, switches and paths. One pair for all; each case ends with db-01 serving again."""

import time

from c2_faults import lose_and_return, told
from mmhalab import net
from mmhalab.measure import Measure
from mmhalab.sh import ensure

OUT_S = 30  # longer than systemd waits before it starts a server again, and than the heartbeats' deadtime after that


def cable_of_the_holder_pulled(lab):
    """The holder's cable is pulled: it lets go by itself, the other node serves; plugged in again, it comes back without a second holder."""
    return told(*lose_and_return(lab, lambda box: net.set_cable(box.name, "down"), lambda box: net.set_cable(box.name, "up"), 6))


def cable_of_the_holder_out_for_half_a_minute(lab):
    """As before under five writers, and for so long that the server which was killed for its waiting commits starts again before the cable is
    back: it waits for the answer what to keep of them. Nobody waits for the stream that has to catch up."""
    pull, plug = (lambda box: net.set_cable(box.name, "down")), (lambda box: net.set_cable(box.name, "up"))
    return told(*lose_and_return(lab, pull, plug, 6, writers=5, lasting=OUT_S, home_bound=3))


def switch_port_of_the_holder_dead(lab):
    """The switch stops forwarding for the holder, whose carrier stays: only the silent gateway tells it that it is cut off."""
    return told(*lose_and_return(lab, lambda box: net.port_leaves_switch(box.name), lambda box: net.port_joins_switch(box.name), 6))


def stay_put(lab, cut, write_bound):
    """Cut something between the nodes for 8 s under load: the VIP must not move and no write may be lost."""
    lab.pair()
    with Measure(lab) as load:
        broken = time.monotonic()
        cut()
        load.writer.wait_ack(broken + 8, 30, "writes to go on during the cut", "db-01")
        outage, writes = load.outage_since(broken)
        lab.heal()
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == ["db-01"] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure(outage <= 1, f"outage {outage:.2f} s although the holder was reachable")
    ensure(writes <= write_bound, f"writes stood still for {writes:.2f} s")
    return f"outage {outage:.2f} s (writes {writes:.2f}), {figures}"


def heartbeats_between_the_nodes_lost(lab):
    """No heartbeat passes between the nodes, everything else does: both see the LAN, the address stays, no write is lost."""
    return stay_put(lab, lab.cut_udp_between, 5)


def nothing_passes_between_the_nodes(lab):
    """No packet between the nodes' addresses, replication included, while both still see the LAN: the address stays. Writes stand still
    until the agent knowingly goes on without the second copy; after the heal both nodes have every row."""
    return stay_put(lab, lab.cut_all_between, 5)
