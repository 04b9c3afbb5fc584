"""Several floating addresses: one group that is on one node at any moment, whatever happens."""

import os
import signal
import time

from c11_strangers import Stranger
from c2_faults import lose_and_return, told
from mmhalab import net
from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for


def _group(count):
    return [net.VIP, *(f"192.0.2.{last}" for last in range(100, 100 + count - 1))]


def _restart(box):
    box.sh("systemctl restart mmha", 60)


def _kill(box):
    old = box.agent_pid()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: box.agent_pid() not in (0, old), 10, "systemd to restart the agent")


def _with_group(lab, count, restart=_restart):
    """The running pair gets more floating addresses, the standby first; returns what the holder's restart with the new file cost the clients.
    After a kill the holder finds one of its addresses and none of the others."""
    lab.pair()
    lab.serving = False
    more = "".join(f'[[vip]]\naddress = "{vip}/24"\n\n' for vip in _group(count)[1:])
    for box in lab.boxes:
        config = box.root / "etc/mmha/mmha.toml"
        config.write_text(config.read_text().replace("[heartbeat]\n", f"{more}[heartbeat]\n", 1))
    with Measure(lab) as load:
        for box in reversed(lab.boxes):
            restarted = time.monotonic()
            restart(box)
            wait_for(lambda: not lab.steady(lab.holder_box().name), 60, "a steady pair", every=0.2)
        outage, _ = load.outage_since(restarted)
        load.finish().ensure_safe()
    if lab.holder_box().name != "db-01":
        lab.wait_steady(60)
    lab.vips = _group(count)
    _all_answer(lab, "db-01")
    lab.serving = True
    return outage


def _all_answer(lab, name):
    """Every address is at this node alone, in its kernel, in the client's ARP table and in what a query is told."""
    mac = net.mac(name)
    for box in lab.boxes:
        held = box.held(lab.vips) if box.powered else []
        wanted = lab.vips if box.name == name else []
        ensure(sorted(held) == sorted(wanted), f"{box.name} has {held}, not {wanted}")
    for vip in lab.vips:
        said = lab.client("SELECT @@hostname", host=vip).check().out.strip()
        ensure(said == name, f"{vip} is answered by {said}, not by {name}")
        ensure(net.neighbour(net.CLIENT_NS, vip) == mac, f"the client believes {vip} at {net.neighbour(net.CLIENT_NS, vip)}, not at {mac}")


def eight_addresses_move_as_one(lab):
    """A running pair gets eight floating addresses by a restart of both services; then a switchover and back, a kill of the agent and a power
    loss. All eight are always on one node, a client reaches each there, and `status` lists them."""
    added = _with_group(lab, 8)
    first, second = lab.boxes
    status = first.mmha("status")
    ensure(status.rc == 0 and "192.0.2.243 and 7 more are here, on db-01 (eth0)" in status.out, f"status says\n{status.out}{status.err}")
    ensure(first.status()["vip"]["addresses"] == lab.vips, f"status --json lists {first.status()['vip']}")
    check = first.mmha("check", timeout=60)
    ensure(check.rc == 0, f"check ended with {check.rc}:\n{check.out}{check.err}")
    outages = []
    with Measure(lab) as load:
        for source, target in ((first, second), (second, first)):
            moved = time.monotonic()
            said = source.mmha("switchover", "--to", target.name, timeout=60).check().out
            ensure("192.0.2.243 and 7 more is on" in said, f"switchover said {said}")
            load.wait_holder(target.name, 30)
            load.wait_served_by(target.name, moved, 20)
            outages.append(load.outage_since(moved)[0])
            lab.wait_steady(holder=target.name)
            _all_answer(lab, target.name)
        _kill(first)
        wait_for(lambda: first.state() == "active", 20, "the new agent to be active", every=0.1)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure([names for _, names in figures.holders].count(["db-02"]) == 1, f"the kill moved the addresses: {figures.holders}")
    _all_answer(lab, "db-01")

    def lose(box):
        box.power_off()

    def back(box):
        _all_answer(lab, "db-02")
        box.boot()

    lost = told(*lose_and_return(lab, lose, back, 5))
    _all_answer(lab, "db-01")
    lab.serving = False
    return f"added in {added:.2f} s, switchovers {outages[0]:.2f} and {outages[1]:.2f} s, power loss: {lost}"


def sixty_four_addresses_move_as_one(lab):
    """As many as there may be, and the holder learns of them by a kill of its agent, which then finds one address of 64: it adopts nothing
    and takes all as one. A power loss of the holder costs no more than with one."""
    added = _with_group(lab, 64, _kill)

    def back(box):
        _all_answer(lab, "db-02")
        box.boot()

    lost = told(*lose_and_return(lab, lambda box: box.power_off(), back, 5))
    _all_answer(lab, "db-01")
    lab.serving = False
    return f"added in {added:.2f} s, power loss: {lost}"


def stranger_has_one_of_the_addresses(lab):
    """A third host has the fifth of eight floating addresses when the services start: neither node takes any of them, and the sentence names
    the stranger. `mmha check` says which address it has. When it is gone, the pair serves all."""
    _with_group(lab, 8)
    lab.serving = False
    for box in reversed(lab.boxes):
        box.sh("systemctl stop mmha", 60)
    with Stranger(lab.vips[4]) as stranger:
        wall, started = time.time(), time.monotonic()
        lab.start_agents()
        said = wait_for(lambda: [text for box in lab.boxes for _, text in box.events(wall) if stranger.mac in text], 20, "a sentence with the stranger's MAC")[-1]
        while time.monotonic() < started + 6:
            ensure(not any(box.held(lab.vips) for box in lab.boxes), "a node took an address of a group of which a stranger has one")
            time.sleep(0.05)
        check = lab.boxes[0].mmha("check", timeout=60).out
        ensure(f"{stranger.mac} answers for {lab.vips[4]} and is not db-02" in check, f"check says\n{check}")
        ensure("nobody answers for 192.0.2.243 and 6 more" in check, f"check says\n{check}")
    lab.wait_steady(40)
    _all_answer(lab, "db-01")
    return f"\"{said}\""
