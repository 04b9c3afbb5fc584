"""A second link between the nodes, a third host with the floating address, and a power loss in the middle of a switchover."""

import threading
import time

from c2_faults import lose_and_return, told
from c8_links import HOLDER, STANDBY, stays
from mmhalab import net
from mmhalab.measure import Measure
from mmhalab.sh import ensure, sh, wait_for

CROSSOVER = ("198.51.100.1", "198.51.100.2")


def _with_second_link(lab):
    """The running pair gets a crossover cable and is told of it."""
    lab.pair()
    net.crossover(CROSSOVER)
    for box in reversed(lab.boxes):
        config = box.root / "etc/mmha/mmha.toml"
        text = config.read_text()
        ensure("\nlinks = []" in text, "init writes no empty links")
        config.write_text(text.replace("\nlinks = []", f'\nlinks = [["{CROSSOVER[0]}", "{CROSSOVER[1]}"]]', 1))
        box.sh("systemctl restart mmha", 60)
        lab.wait_steady()
    lab.serving = True


def second_link_keeps_them_together(lab):
    """With a second link: no frame passes between the nodes on the LAN, while both reach the gateway. Without that link both would serve;
    with it nothing moves, status shows the dead link, and writes go on after the copy was given up. Then both links are cut: a takeover
    like any other."""
    _with_second_link(lab)
    first, _ = lab.boxes
    try:
        def seen(_wall):
            def dead_and_alive():
                links = first.status()["peer"]["links"]
                return len(links) == 2 and (links[0]["heard_ms"] or 9999) > 3000 and (links[1]["heard_ms"] or 9999) < 1000
            wait_for(dead_and_alive, 10, "status to show one dead link and one alive")
            first.wait_warning("192.0.2.241 - 192.0.2.242 is dead")

        between = [f"iifname {a} oifname {b}" for a, b in ((HOLDER, STANDBY), (STANDBY, HOLDER))]
        one = stays(lab, lambda: net.drop(between), lab.heal, seen, write_bound=8)

        def cut(box):
            net.set_cable(box.name, "down")
            box.sh("ip link set eth1 down")

        def mend(box):
            box.sh("ip link set eth1 up")
            net.set_cable(box.name, "up")

        both = told(*lose_and_return(lab, cut, mend, 6))
    finally:
        lab.serving = False
    return f"LAN cut: {one}; both cut: {both}"


class Stranger:
    """A third host that has the floating address, or one of them."""

    def __init__(self, vip=net.VIP):
        self.vip = vip

    def __enter__(self):
        sh(["ip", "netns", "add", "stranger"])
        net.plug("stranger", self.vip)
        self.mac = net.mac("stranger")
        return self

    def __exit__(self, *_):
        net.unplug("stranger")
        sh(["ip", "netns", "del", "stranger"])


def stranger_has_the_address_at_start(lab):
    """A third host has the floating address when the services start: neither node takes it, and the sentence names the stranger by its
    hardware address. When it is gone, the pair serves."""
    first, second = lab.pair()
    for box in (second, first):
        box.sh("systemctl stop mmha", 60)
    with Stranger() as stranger:
        wall, started = time.time(), time.monotonic()
        lab.start_agents()
        said = wait_for(lambda: [text for box in lab.boxes for _, text in box.events(wall) if stranger.mac in text], 20, "a sentence with the stranger's MAC")[-1]
        while time.monotonic() < started + 8:
            ensure(not any(box.holds_vip() for box in lab.boxes), "a node took the stranger's address")
            time.sleep(0.05)
    lab.wait_steady(40)
    return f"\"{said}\""


def stranger_appears_while_serving(lab):
    """A third host takes the floating address while a node serves: the pair does not move it, status names the stranger, and when it is
    gone the clients are back at the holder within 3 s."""
    first, _ = lab.pair()
    with Measure(lab) as load:
        with Stranger() as stranger:
            net.in_ns("stranger", ["chroot", first.root, "arping", "-U", "-c", "2", "-I", "eth0", net.VIP]).check()
            said = first.wait_warning(stranger.mac)
        gone = time.monotonic()
        back = load.wait_served_by(HOLDER, gone, 20).acked - gone
        lab.wait_steady(60)
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == [HOLDER] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure(back <= 3, f"the clients were back only {back:.1f} s after the stranger had gone")
    return f"\"{said}\", clients back after {back:.2f} s, {figures}"


def decided(box, size, state):
    """Whether the box has entered `state` since its history had that many bytes; looked up on its disk, since an answer takes too long."""
    with open(box.root / "var/lib/mmha/events.jsonl", "rb") as history:
        history.seek(size)
        return f'"to":"{state}"'.encode() in history.read()


def _left_alone(load, survivor, wall, lost, may_doubt):
    """The outage until the survivor serves; or, where it may doubt, that it says why it does not."""
    def doubts():
        return may_doubt and any(rule == 24 and "I was not in sync" in text for rule, text in survivor.events(wall))

    def serves():
        return all(any(a.sent > lost + 0.1 and a.server == survivor.name for a in client.acks()) for client in (load.probe, load.writer))

    wait_for(lambda: serves() or doubts(), 40, f"{survivor.name} to serve", every=0.1)
    return f"{load.outage_since(lost)[0]:.2f}" if serves() else "(in doubt)"


def power_loss_during_a_switchover(lab):
    """`mmha switchover`, and at each of its steps (closing, the peer applies the rest, granted) the holder loses power, or the other node
    does. The one that is left ends up serving, with every row; only when the other one has served for the moment before its commits wait
    for the copy, the one that is left says that it may lack what was acknowledged then, and serving goes on with the other's return."""
    lab.pair()
    outages = []
    for step, who in ((step, who) for who in ("holder", "successor") for step in ("fence", "drain", "granted")):
        source = lab.holder_box()
        victim = source if who == "holder" else lab.other(source)
        survivor = lab.other(victim)
        size = (source.root / "var/lib/mmha/events.jsonl").stat().st_size
        with Measure(lab) as load:
            asking = threading.Thread(target=lambda box=source: box.run(["mmha", "switchover"], 10), daemon=True)
            asking.start()
            wait_for(lambda box=source, size=size, step=step: decided(box, size, step), 10, f"the step {step}", every=0.0005)
            wall, lost = time.time(), time.monotonic()
            victim.power_off()
            outages.append(f"{who} at {step} {_left_alone(load, survivor, wall, lost, who == 'successor')}")
            victim.boot()
            back = time.monotonic()
            load.probe.wait_ack(back, 40, "a read after the return")
            load.writer.wait_ack(back, 40, "a write after the return")
            wait_for(lambda: not lab.steady(lab.holder_box().name), 120, "a steady pair", every=0.2)
            asking.join(15)
            load.finish().ensure_safe()
    if lab.holder_box().name != HOLDER:
        lab.holder_box().mmha("switchover", timeout=60)
    lab.wait_steady(60)
    return f"outages: {', '.join(outages)} s"
