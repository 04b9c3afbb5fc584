"""A pair with an arbiter: a real etcd of three members on the LAN. Never two writers, also where two nodes alone cannot promise it; and what
losing etcd does and does not do."""

import shutil
import time

from mmhalab import net
from mmhalab.etcd import Etcd, make_ca
from mmhalab.measure import Measure
from mmhalab.sh import ensure, wait_for

ALL = ["etcd-1", "etcd-2", "etcd-3"]
TLS_FILES = {"ca_file": "ca.pem", "cert_file": "node.pem", "key_file": "node.key"}


def _pair(lab, tls=False):
    """A serving pair with etcd: the one of the case before if it is steady, else a new one."""
    if lab.arbiter and bool(lab.arbiter.tls) == tls and len(lab.boxes) == 2 and all(box.powered for box in lab.boxes):
        lab.wait_steady(20)
        return lab.boxes
    lab.fresh()
    lab.arbiter = Etcd(lab.directory, tls)
    lab.arbiter.start()
    lab.configure()
    first, second = lab.boxes
    section = f"\n[arbiter]\nendpoints = {str(lab.arbiter.endpoints).replace(chr(39), chr(34))}\n"
    if tls:
        section += "".join(f'{key} = "/etc/mmha/{file}"\n' for key, file in TLS_FILES.items())
        for file in TLS_FILES.values():
            _give(first, lab.arbiter.tls / file, file)
    first.sh(["sh", "-c", "cat >> /etc/mmha/mmha.toml"], stdin=section)
    lab.copy_config(first, second)
    for result in lab.bootstrap():
        result.check()
    lab.start_agents()
    lab.wait_steady(90)
    lab.make_application()
    return lab.boxes


def _give(box, source, name):
    """A file of /etc/mmha as an operator would put it there: whole or not at all."""
    target = box.root / "etc/mmha" / name
    shutil.copyfile(source, f"{target}.new")
    target.with_name(f"{name}.new").chmod(0o600)
    target.with_name(f"{name}.new").rename(target)


def _cut_layer_2(lab):
    """Not a frame passes between the two nodes' ports, ARP included; everybody else is reached by both."""
    net.drop(['iifname "db-01" oifname "db-02"', 'iifname "db-02" oifname "db-01"'])


def _says(box, word, bound):
    """Wait for the box's present sentence to contain this."""
    return wait_for(lambda: word in box.status()["sentence"] and box.status()["sentence"], bound, f"{box.name} to say {word!r}", every=0.1)


def arbiter_serves(lab):
    """A pair with an arbiter comes up; check and status of both nodes are content and name the holder of the lease; a restarted agent keeps
    the address; a stopped service hands the lease over with the address, and failback brings both home."""
    first, second = _pair(lab)
    wait_for(lambda: first.status()["arbiter"]["lease"] == "here", 10, "the holder to have the lease")
    for box in lab.boxes:
        check = box.mmha("check", timeout=60)
        ensure(check.rc == 0 and "a majority answers; db-01 has the lease" in check.out, f"check at {box.name}:\n{check.out}{check.err}")
        ensure(check.out.count("and has a leader") == 3, f"check at {box.name} does not name three members:\n{check.out}")
    status = first.status()["arbiter"]
    ensure(status["lease"] == "here" and 0 < status["left_ms"] < 5000, f"status of the holder: {status}")
    wait_for(lambda: second.status()["arbiter"]["lease"] == "taken", 10, "the standby to see the holder's lease")
    with Measure(lab) as load:
        old = first.agent_pid()
        first.sh(["systemctl", "kill", "--signal=KILL", "--kill-whom=main", "mmha"])
        wait_for(lambda: first.agent_pid() not in (0, old) and first.state() == "active", 15, "the new agent to be active")
        moved = time.monotonic()
        first.sh(["systemctl", "stop", "mmha"])
        load.wait_served_by("db-02", moved, 20)
        load.writer.wait_ack(moved + 7, 20, "the new holder to serve on, for longer than the old lease could last", "db-02")
        ensure(second.status()["arbiter"]["lease"] == "here", "the new holder did not get the lease")
        first.sh(["systemctl", "start", "mmha"])
        load.wait_holder("db-01", 60)
        outage, _ = load.outage_since(load.start)
        lab.wait_steady()
        wait_for(lambda: first.status()["arbiter"]["lease"] == "here", 10, "the lease to come back with the address")
        figures = load.finish()
    figures.ensure_safe()
    ensure(outage <= 1, f"outage {outage:.2f} s")
    return f"outage {outage:.2f} s in an agent's restart, a stop and a failback, {figures}"


def arbiter_layer_2_cut(lab):
    """Not a frame passes between the nodes, while both see the LAN and etcd: without an arbiter both would serve. The holder serves on, the
    other says what it waits for, and no write is acknowledged by it; after the heal nothing is missing."""
    first, second = _pair(lab)
    with Measure(lab) as load:
        broken = time.monotonic()
        _cut_layer_2(lab)
        sentence = _says(second, "arbiter's lease", 15)
        load.writer.wait_ack(broken + 8, 30, "writes to go on during the cut", "db-01")
        ensure(second.state() == "gate" and not second.holds_vip(), f"db-02 is {second.state()}")
        ensure(second.sql("SELECT @@read_only") == "1", "the waiting node's server is writable")
        _says(second, "not taking over", 20)
        outage, writes = load.outage_since(broken)
        lab.heal()
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == ["db-01"] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure("db-01 has it" in sentence, f"db-02 said: {sentence}")
    return f"outage {outage:.2f} s (writes {writes:.2f}), {figures}"


def arbiter_holder_cut_from_everything(lab):
    """The holder's switch port goes dead under load: it lets go, its lease ends, the other node serves; mended, it comes back."""
    first, _ = _pair(lab)
    with Measure(lab, direct=[first]) as load:
        broken = time.monotonic()
        net.port_leaves_switch("db-01")
        load.wait_served_by("db-02", broken, 30)
        outage, _ = load.outage_since(broken)
        back = time.monotonic()
        net.port_joins_switch("db-01")
        load.wait_holder("db-01", 150)
        load.wait_served_by("db-01", back, 30)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(outage <= 9, f"outage {outage:.2f} s")
    return f"outage {outage:.2f} s, {figures}"


def arbiter_layer_2_cut_and_out_of_reach(lab):
    """The holder has lost etcd and then its peer, but not its clients: it lets go before the other node can have the lease, which then serves."""
    first, second = _pair(lab)
    to_etcd = [f"ip saddr {first.address} ip daddr {{ 192.0.2.21, 192.0.2.22, 192.0.2.23 }}"]
    with Measure(lab, direct=[first]) as load:
        net.drop(to_etcd)
        wait_for(lambda: first.status()["arbiter"]["lease"] == "unreachable", 15, "the holder to miss its arbiter")
        ensure(first.state() == "active", "the holder left although it hears its peer")
        time_cut = time.monotonic()
        _cut_layer_2(lab)
        load.wait_holder("db-02", 20)
        load.wait_served_by("db-02", time_cut, 20)
        outage, _ = load.outage_since(time_cut)
        lab.heal()
        load.wait_holder("db-01", 150)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    return f"outage {outage:.2f} s, {figures}"


def arbiter_members_lost(lab):
    """One member of etcd dies, its leader at that: nothing moves. A second one dies: nothing moves, and status says what that means. Then the
    holder loses power: nobody takes over, and the sentence says why. etcd comes back: the survivor serves; the dead node returns."""
    first, second = _pair(lab)
    etcd = lab.arbiter
    with Measure(lab) as load:
        leader = etcd.leader()
        rest = [name for name in ALL if name != leader]
        etcd.kill([leader])
        mark = time.monotonic()
        load.writer.wait_ack(mark + 8, 30, "writes without etcd's leader", "db-01")
        etcd.kill(rest[:1])
        for box in lab.boxes:
            wait_for(lambda box=box: box.status()["arbiter"]["lease"] == "unreachable", 20, f"{box.name} to miss its arbiter")
        mark = time.monotonic()
        load.writer.wait_ack(mark + 8, 30, "writes without a majority of etcd", "db-01")
        calm, _ = load.outage_since(load.start)
        told = [first.mmha("status"), second.mmha("status")]
        ensure(all(names == ["db-01"] for _, names in load.holders()), f"the VIP moved: {load.holders()}")
        ensure(all(answer.rc == 4 and "without the arbiter" in answer.out for answer in told), f"status: {told[0].out}{told[1].out}")

        first.power_off()
        sentence = _says(second, "Waiting for the arbiter's lease", 20)
        mark = time.monotonic()
        wait_for(lambda: time.monotonic() > mark + 5, 10, "five seconds")
        ensure(second.state() == "gate" and not second.holds_vip(), f"db-02 is {second.state()} without a majority of etcd")
        back = time.monotonic()
        etcd.run_members([leader, rest[0]])
        load.wait_served_by("db-02", back, 40)
        waited = time.monotonic() - back
        first.boot()
        load.wait_holder("db-01", 150)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(calm <= 1, f"outage {calm:.2f} s although only etcd was lost")
    ensure("no endpoint of the arbiter" in sentence, f"db-02 said: {sentence}")
    return f"served {waited:.1f} s after etcd was back, {figures}"


def arbiter_power_loss(lab):
    """The holder loses power under load: the other node serves once the dead one's lease has ended."""
    first, _ = _pair(lab)
    with Measure(lab) as load:
        broken = time.monotonic()
        first.power_off()
        load.wait_served_by("db-02", broken, 30)
        outage, _ = load.outage_since(broken)
        first.boot()
        load.wait_holder("db-01", 150)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    lab.figure("power loss with an arbiter (ttl 5 s)", outage, 7)
    ensure(outage <= 9, f"outage {outage:.2f} s")
    return f"outage {outage:.2f} s, {figures}"


def _cpu_seconds(box):
    """Of the service with all its children."""
    return int(box.sh(["systemctl", "show", "-P", "CPUUsageNSec", "mmha"])) / 1e9


def arbiter_over_https(lab):
    """The same with TLS and certificates on both sides: check is content, the questions leave no process behind and cost little; then the
    holder loses power under load, and the other node serves once the dead one's lease has ended."""
    first, second = _pair(lab, tls=True)
    for box in lab.boxes:
        check = box.mmha("check", timeout=60)
        ensure(check.rc == 0 and "https goes through OpenSSL" in check.out and "a majority answers; db-01 has the lease" in check.out,
               f"check at {box.name}:\n{check.out}{check.err}")
    before, mark = [_cpu_seconds(box) for box in lab.boxes], time.monotonic()
    wait_for(lambda: time.monotonic() > mark + 20, 30, "twenty seconds")
    spent = [(_cpu_seconds(box) - old) / (time.monotonic() - mark) * 100 for box, old in zip(lab.boxes, before)]
    for box in lab.boxes:
        zombies = box.sh("ps -eo stat=,comm= | grep '^Z' || true")
        ensure("openssl" not in zombies, f"left behind at {box.name}: {zombies}")
        ensure(box.status()["arbiter"]["lease"] in ("here", "taken"), f"{box.name}: {box.status()['arbiter']}")
    with Measure(lab) as load:
        broken = time.monotonic()
        first.power_off()
        load.wait_served_by("db-02", broken, 30)
        outage, _ = load.outage_since(broken)
        ensure(second.status()["arbiter"]["lease"] == "here", "the new holder did not get the lease")
        first.boot()
        load.wait_holder("db-01", 150)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure(outage <= 9, f"outage {outage:.2f} s")
    ensure(max(spent) <= 15, f"{spent[0]:.1f} and {spent[1]:.1f} % of a core at rest")
    return f"power loss: outage {outage:.2f} s; at rest {spent[0]:.1f} (holder) and {spent[1]:.1f} % of a core; {figures}"


def arbiter_https_that_cannot_be_trusted(lab):
    """Who answers as etcd has no certificate of our CA, openssl is gone, the key can be read by others: `mmha check` says what and what to
    do, and nobody claims by silence. With the right files again the survivor serves."""
    first, second = _pair(lab, tls=True)
    make_ca(lab.arbiter.tls, "strange")
    for box in lab.boxes:
        _give(box, lab.arbiter.tls / "strange.pem", "ca.pem")
    for box in lab.boxes:
        wait_for(lambda box=box: box.status()["arbiter"]["lease"] == "unreachable", 20, f"{box.name} to refuse that arbiter")
        check = box.mmha("check", timeout=60)
        ensure(check.rc == 4 and check.out.count("signed by nobody this node believes") == 3 and "set ca_file" in check.out,
               f"check at {box.name}:\n{check.out}")
    ensure(first.holds_vip() and not second.holds_vip(), "the VIP moved although the nodes see each other")
    second.sh(["mv", "/usr/bin/openssl", "/usr/bin/openssl.away"])
    check = second.mmha("check", timeout=60)
    ensure(check.rc == 4 and "apt-get install openssl" in check.out, f"check without openssl: {check.out}")
    second.sh(["mv", "/usr/bin/openssl.away", "/usr/bin/openssl"])
    (second.root / "etc/mmha/node.key").chmod(0o644)
    check = second.mmha("check", timeout=60)
    ensure(check.rc != 0 and "chmod 600 /etc/mmha/node.key" in check.out + check.err, f"check with an open key: {check.out}{check.err}")
    (second.root / "etc/mmha/node.key").chmod(0o600)
    with Measure(lab) as load:
        first.power_off()
        sentence = _says(second, "Waiting for the arbiter's lease", 20)
        mark = time.monotonic()
        wait_for(lambda: time.monotonic() > mark + 8, 10, "eight seconds")
        ensure(second.state() == "gate" and not second.holds_vip(), f"db-02 is {second.state()} by the word of a stranger")
        _give(second, lab.arbiter.tls / "ca.pem", "ca.pem")
        back = time.monotonic()
        load.wait_served_by("db-02", back, 30)
        waited = time.monotonic() - back
        first.boot()
        _give(first, lab.arbiter.tls / "ca.pem", "ca.pem")
        load.wait_holder("db-01", 150)
        lab.wait_steady()
        figures = load.finish()
    figures.ensure_safe()
    ensure("signed by nobody" in sentence, f"db-02 said: {sentence}")
    return f"served {waited:.1f} s after the right CA was back, {figures}"
