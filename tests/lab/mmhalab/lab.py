"""The lab: network, two boxes and a client, from nothing to a serving pair, with every fault a case may want.

Everything is taken down when the `with` block ends, however it ends. Refuses to reuse what a failed case left behind.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import sys
import threading
from pathlib import Path

from . import net, sandbox, templates
from .box import Box
from .sh import LabError, sh, wait_for

INIT = ["init", *(part for name, address in net.NODES for part in ("--node", f"{name}={address}")), "--vip", f"{net.VIP}/{net.PREFIX}",
        "--client", net.CLIENT, "--preferred", "db-01"]


def together(*jobs, bound=600):
    """Run the jobs in parallel and return their results in order; the first failure is raised after all have ended."""
    results = [None] * len(jobs)

    def work(index, job):
        try:
            results[index] = job()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(bound)
        if thread.is_alive():
            raise LabError(f"a step did not end within {bound} s")
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


class Lab:
    def __init__(self, deb):
        self.deb = Path(deb) if deb else None
        self.id = secrets.token_hex(3)
        self.directory = templates.cache_dir() / "runs" / self.id
        self.boxes = []
        self.cgroups = Path(sandbox.CGROUPS) / f"mmha-lab-{self.id}"
        self.flavor = None
        self.figures = {}  # what happened: (outage in seconds, the figure to reach)
        self.arbiter = None  # an etcd on the LAN, for as long as the boxes live
        self.vips = [net.VIP]  # the floating addresses of the pair; one, unless a case gives it more
        self.serving = False  # a bootstrapped pair in its steady state that the next case may use

    def __enter__(self):
        sweep(self.directory.parent)
        self.directory.mkdir(parents=True)
        if sh(["stat", "-f", "-c", "%T", self.directory]).strip() == "overlayfs":  # overlays do not stack
            sandbox.mount("tmpfs", str(self.directory), "tmpfs")
        self.lock = open(self.directory / "lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        net.build()
        return self

    def __exit__(self, *_):
        self.discard()
        self.lock.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def figure(self, what, seconds, target):
        """Keep a figure for the table at the end; the cases judge with a margin, since the machine may be busy."""
        self.figures[what] = (seconds, target)

    def figures_table(self):
        return [f"     {what}: client outage {seconds:.2f} s, to reach {target:g} s{'' if seconds <= target else '  (MISSED)'}"
                for what, (seconds, target) in self.figures.items()]

    def invite(self):
        """--keep: leave everything running and tell how to look at it."""
        print(f"\nThe boxes are still running. To get in:  nsenter -t {sandbox.outer_pid} -m -p -r -w bash   and there:")
        for box in self.boxes:
            if box.powered:
                print(f"    {box.name}: nsenter -t {box.init_pid} -m -u -i -p -n -C -r -w bash")
        print(f"    client: nsenter --net={net.netns(net.CLIENT_NS)} bash\nEnter or Ctrl-C here takes everything down.", flush=True)
        sys.stdin.readline() if sys.stdin.isatty() else signal.pause()

    # Boxes

    def fresh(self, flavor="mariadb", install=True, template=None):
        """Two newly booted boxes with the package installed (nothing configured); what was there before is gone."""
        self.discard()
        template = template or templates.template(flavor)
        self.flavor = flavor
        for name, address in net.NODES:
            directory = self.directory / secrets.token_hex(2) / name
            self.boxes.append(Box(name, address, flavor, template, directory, self.cgroups))
        together(*(box.boot for box in self.boxes))
        if install:
            together(*(lambda box=box: self.install(box) for box in self.boxes))
        return self.boxes

    def install(self, box, deb=None):
        deb = Path(deb or self.deb)
        shutil.copy(deb, box.root / "root" / deb.name)
        return box.sh(["dpkg", "-i", f"/root/{deb.name}"], 120)

    def discard(self):
        """Throw the boxes away, disks included."""
        self.serving, self.vips = False, [net.VIP]
        net.heal()
        if self.arbiter:
            self.arbiter.stop()
            self.arbiter = None
        for box in self.boxes:
            with contextlib.suppress(Exception):
                box.power_off()
            with contextlib.suppress(OSError):
                sandbox.umount(str(box.root))
            shutil.rmtree(box.directory.parent, ignore_errors=True)
        self.boxes = []
        with contextlib.suppress(LabError):
            wait_for(lambda: remove_cgroup(self.cgroups), 3, "the boxes' control groups to be empty")

    def box(self, name):
        return next(box for box in self.boxes if box.name == name)

    def other(self, box):
        return next(b for b in self.boxes if b is not box)

    def holder_box(self):
        """The one box that holds the VIP; raises when none or both do."""
        holders = [box for box in self.boxes if box.holds_vip()]
        if len(holders) != 1:
            raise LabError(f"the VIP is held by {[b.name for b in holders] or 'nobody'}")
        return holders[0]

    # From nothing to a pair

    def configure(self, *extra):
        """`mmha init` on db-01, then the directory is copied to db-02, as the manual says. No flap brake: one case after the other breaks the
        same pair, which is what the brake is for."""
        first, second = self.boxes
        said = first.mmha(*INIT, *extra).check().out
        config = first.root / "etc/mmha/mmha.toml"
        config.write_text(config.read_text().replace("[heartbeat]\n", "[heartbeat]\nflap_count = 0\n"))
        self.copy_config(first, second)
        return said

    def copy_config(self, source, target):
        archive = ["tar", "-C", "/etc", "-c", "-f", "/root/mmha.tar", "mmha"]
        source.sh(archive)
        shutil.copy(source.root / "root/mmha.tar", target.root / "root/mmha.tar")
        target.sh(["tar", "-C", "/etc", "-x", "-p", "-f", "/root/mmha.tar"])

    def bootstrap(self, *extra, bound=300):
        """`mmha bootstrap` on both at once; returns both results without judging them."""
        return together(*(lambda box=box: box.mmha("bootstrap", *extra, timeout=bound) for box in self.boxes))

    def pair(self, flavor="mariadb"):
        """A serving pair: the one from the case before if it is still in its steady state, else a new one."""
        if self.serving and self.flavor == flavor:
            with contextlib.suppress(LabError):
                self.wait_steady(10)
                return self.boxes
        self.fresh(flavor)
        self.configure()
        for result in self.bootstrap():
            result.check()
        self.start_agents()
        self.wait_steady(90)
        self.make_application()
        self.serving = True
        return self.boxes

    def start_agents(self):
        together(*(lambda box=box: box.sh(["systemctl", "enable", "--now", "mmha"], 100) for box in self.boxes))

    def make_application(self):
        """The application's account, made once at the holder; its database, made through the VIP; replication brings both to the other node."""
        holder = self.holder_box()
        holder.sql("CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY 'app-password'; GRANT ALL ON shop.* TO app@'%'")
        self.client("CREATE DATABASE IF NOT EXISTS shop").check()
        self.client("CREATE TABLE IF NOT EXISTS shop.numbered (writer VARCHAR(20), n INT, at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3), "
                    "PRIMARY KEY (writer, n)) ENGINE=InnoDB").check()
        seen = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='shop' AND table_name='numbered'"
        for box in self.boxes:
            wait_for(lambda box=box: box.sql(seen) == "1", 20, f"the application's table at {box.name}")

    # Waiting for states

    def steady(self, holder="db-01"):
        """What is still missing for: `holder` serves, the other stands by, both directions replicate, writes are protected; '' if nothing."""
        states = {}
        for box in self.boxes:
            if not box.powered:
                return f"{box.name} is off"
            states[box.name] = box.status()
        for name, status in states.items():
            wanted = "active" if name == holder else "standby"
            if status["state"] != wanted:
                return f"{name} is {status['state']}, not {wanted}: {status['sentence']}"
            replication = status["replication"]
            if replication["error"] or not running(replication["receiver"]) or not running(replication["applier"]):
                return f"replication at {name}: {replication}"
            if not status["peer"]["echo"]:
                return f"{name} does not hear its peer"
        if not states[holder]["replication"]["protected"]:
            return f"{holder} is not protected by semi-sync"
        if not self.box(holder).holds_vip() or self.other(self.box(holder)).holds_vip():
            return "the address is not where the states say"
        return ""

    def wait_steady(self, bound=90, holder="db-01"):
        """Steady, and still so in three looks in a row."""
        looks = missing = None

        def look():
            nonlocal looks, missing
            missing = self.steady(holder)
            looks = 0 if missing else (looks or 0) + 1
            return looks >= 3

        try:
            wait_for(look, bound, "the steady state", every=0.1)
        except LabError as error:
            raise LabError(f"no steady state with {holder} serving after {bound} s: {missing or error}") from None

    # Faults in the network

    def cut_udp_between(self):
        """Heartbeats are lost both ways; everything else passes."""
        (a, b) = [address for _, address in net.NODES]
        net.drop([f"ip saddr {x} ip daddr {y} meta l4proto udp" for x, y in ((a, b), (b, a))])

    def cut_all_between(self):
        """No IP packet passes between the nodes' addresses; both still see the LAN, and ARP."""
        (a, b) = [address for _, address in net.NODES]
        net.drop([f"ip saddr {x} ip daddr {y}" for x, y in ((a, b), (b, a))])

    def heal(self):
        net.heal()

    def client(self, statement, host=net.VIP, bound=10):
        """One statement by the distribution's client program from the client's namespace, as the application's user."""
        argv = ["chroot", self.boxes[0].root, self.boxes[0].client, "-uapp", "-papp-password", "-h", host, "--connect-timeout=2", "-BNe", statement]
        return net.in_ns(net.CLIENT_NS, argv, bound)


def running(thread):
    """Receiver and applier states come as words or booleans."""
    return str(thread).lower() in ("yes", "true", "running", "on")


def remove_cgroup(path):
    """Bottom up, since the files of a cgroup cannot be removed; True when it is gone."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not path.exists()


def sweep(runs):
    """Remove what runs that were killed left on the disk: nobody holds their lock any more."""
    for directory in runs.glob("*") if runs.is_dir() else ():
        with contextlib.suppress(OSError), open(directory / "lock") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    for cgroup in Path(sandbox.CGROUPS).glob("mmha-lab-*"):
        if not (runs / cgroup.name.removeprefix("mmha-lab-")).exists():
            remove_cgroup(cgroup)


QUIET_SYSLOG = r"grep -E 'mmha|mariadb|mysql' /var/log/syslog | grep -vE 'InnoDB|Aborted connection|could not be resolved|debian-start' | tail -n 100"


def describe(box):
    """Everything one wants to see of a box after a failed case."""
    if not box.powered:
        return f"--- {box.name}: off"
    query = "SHOW ALL SLAVES STATUS\\G" if box.flavor == "mariadb" else "SHOW REPLICA STATUS\\G"
    parts = [
        ("mmha events", "mmha events -n 60"), ("mmha status", "mmha status"), ("syslog", QUIET_SYSLOG),
        ("address", "ip addr show eth0"), ("nft", "nft list ruleset"), ("iptables", "iptables -S"),
        ("replication", f"timeout 5 {box.client} -uroot -e '{query}' | grep -v ': *$'"),
        ("variables", f"timeout 5 {box.client} -uroot -e \"SHOW GLOBAL VARIABLES WHERE variable_name IN "
                      "('read_only','super_read_only','gtid_binlog_pos','gtid_slave_pos','gtid_executed','server_id')\""),
    ]
    shown = []
    for title, command in parts:
        try:
            answer = box.run(command, 10)
            shown.append(f"--- {box.name}: {title}\n{answer.out}{answer.err if answer.rc else ''}".rstrip())
        except (LabError, OSError) as error:
            shown.append(f"--- {box.name}: {title}: {error}")
    return "\n".join(shown)
