"""The lab's network: a switch, a gateway, a client, and one network namespace per box. All of it lives in the sandbox.

Addresses come from TEST-NET-1 (RFC 5737). Refuses nothing that a real network would do to a pair: cables, ports and paths can be cut.
"""

from .sh import run, sh

GATEWAY, CLIENT, VIP = "192.0.2.1", "192.0.2.10", "192.0.2.243"
NODES = (("db-01", "192.0.2.241"), ("db-02", "192.0.2.242"))
PREFIX = 24
LAN = "lan"  # the namespace of the switch; its bridge has the gateway's address
CLIENT_NS = "client"


def netns(name):
    return f"/run/netns/{name}"


def in_ns(name, argv, timeout=20):
    return run(["nsenter", f"--net={netns(name)}", *argv], timeout)


def build():
    """Switch, gateway and client; boxes plug themselves in with plug()."""
    for name in (LAN, CLIENT_NS):
        sh(["ip", "netns", "add", name])
        sh(["ip", "-n", name, "link", "set", "lo", "up"])
    sh(["ip", "-n", LAN, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0"])
    sh(["ip", "-n", LAN, "addr", "add", f"{GATEWAY}/{PREFIX}", "dev", "br0"])
    sh(["ip", "-n", LAN, "link", "set", "br0", "up"])
    # A port outside the bridge must reach nobody: without this the namespace itself would answer ARP for the gateway there.
    sh(["nsenter", f"--net={netns(LAN)}", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore"])
    plug(CLIENT_NS, CLIENT)


def plug(name, address):
    """Give namespace `name` an eth0 with `address` and a port of the same name at the switch."""
    sh(["ip", "-n", LAN, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])
    sh(["ip", "-n", LAN, "link", "set", name, "master", "br0", "up"])
    sh(["ip", "-n", name, "addr", "add", f"{address}/{PREFIX}", "dev", "eth0"])
    sh(["ip", "-n", name, "link", "set", "eth0", "up"])
    sh(["ip", "-n", name, "route", "add", "default", "via", GATEWAY])


def unplug(name):
    """The machine behind the port is gone: both ends of its cable vanish, the addresses with them."""
    run(["ip", "-n", LAN, "link", "del", name])


def set_cable(name, state):
    """`down`: the box loses carrier, as when somebody pulls the plug; `up`: plugged in again."""
    sh(["ip", "-n", LAN, "link", "set", name, state])


def port_leaves_switch(name):
    """The switch stops forwarding for this port; the box keeps its carrier. (Taken off the bridge, the port would still be answered ARP
    for the gateway's address: Linux answers for any address of its own on any interface.)"""
    sh(["nsenter", f"--net={netns(LAN)}", "bridge", "link", "set", "dev", name, "state", "0"])


def port_joins_switch(name):
    sh(["nsenter", f"--net={netns(LAN)}", "bridge", "link", "set", "dev", name, "state", "3"])


def drop(rules):
    """Drop what matches at the switch: nft conditions of table bridge, e.g. `ip saddr A ip daddr B udp dport 694`. What goes to and from
    the gateway, which is the switch's own address, passes here too."""
    script = ["add table bridge cut"]
    for hook in ("forward", "input", "output"):
        script.append(f"add chain bridge cut {hook} {{ type filter hook {hook} priority 0; }}")
        script += [f"add rule bridge cut {hook} {rule} counter drop" for rule in rules]
    sh(["nsenter", f"--net={netns(LAN)}", "nft", "-f", "-"], stdin="\n".join(script) + "\n")


def heal():
    in_ns(LAN, ["nft", "delete", "table", "bridge", "cut"])


def lose(percent, rules):
    """Lose that share of what matches, at random."""
    drop([f"{rule} numgen random mod 100 < {percent}" for rule in rules])


def gateway(verb):
    """`del`: the ping target is gone for everybody; `add`: back."""
    sh(["ip", "-n", LAN, "addr", verb, f"{GATEWAY}/{PREFIX}", "dev", "br0"])


def mac(name):
    """The hardware address of eth0 in namespace `name`."""
    words = in_ns(name, ["ip", "-o", "link", "show", "dev", "eth0"]).check().out.split()
    return words[words.index("link/ether") + 1]


def neighbour(name, address):
    """The hardware address that namespace `name` believes `address` to have; None when it does not know."""
    words = in_ns(name, ["ip", "neigh", "show", address]).out.split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else None


def crossover(addresses):
    """A second cable straight from box to box: eth1 on both. A power loss takes it away."""
    (a, _), (b, _) = NODES
    sh(["ip", "-n", a, "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", b])
    for name, address in zip((a, b), addresses):
        sh(["ip", "-n", name, "addr", "add", f"{address}/{PREFIX}", "dev", "eth1"])
        sh(["ip", "-n", name, "link", "set", "eth1", "up"])
