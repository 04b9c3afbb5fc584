"""A box: a whole Debian system booted by systemd-nspawn over an overlay of a template, in its own network namespace.

What it can suffer: power loss, a pulled cable, stopped and killed processes. Refuses to find processes by name outside the box.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import uuid

from . import net, sandbox
from .sh import LabError, run, sh, wait_for

NSPAWN_ENV = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}


class Box:
    def __init__(self, name, address, flavor, template, directory, cgroups):
        self.name, self.address, self.flavor = name, address, flavor
        self.directory, self.cgroup = directory, cgroups / name
        self.root = directory / "root"
        self.unit = "mariadb" if flavor == "mariadb" else "mysql"
        self.client = "mariadb" if flavor == "mariadb" else "mysql"
        self.nspawn = None
        self.init_pid = None
        for part in ("upper", "work", "root"):
            (directory / part).mkdir(parents=True)
        options = f"lowerdir={template},upperdir={directory}/upper,workdir={directory}/work"
        sandbox.mount("overlay", str(self.root), "overlay", 0, options)
        (self.root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
        (self.root / "etc/hostname").write_text(name + "\n")
        hosts = "".join(f"{a} {n}\n" for n, a in net.NODES)
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n" + hosts)
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        (self.root / "etc/resolv.conf").write_text("# no resolver: a lookup is refused at once\n")

    # Life and death

    def boot(self):
        """Power on; returns when systemd has reached its first steady state and the server answers SQL."""
        self.power_on()
        self.wait_booted()

    def power_on(self):
        """Network, then process 1. The disk is the one the box had before."""
        sh(["ip", "netns", "add", self.name])
        sh(["ip", "-n", self.name, "link", "set", "lo", "up"])
        net.plug(self.name, self.address)
        self.cgroup.mkdir(parents=True, exist_ok=True)
        argv = ["systemd-nspawn", "-q", "-D", str(self.root), "--resolv-conf=off", "--register=no", "--keep-unit", "--capability=all",
                f"--network-namespace-path={net.netns(self.name)}", f"--machine={self.name}", f"--hostname={self.name}", "--boot"]
        with open(self.directory / "console.log", "ab") as console:
            self.nspawn = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                                           env={**os.environ, **NSPAWN_ENV}, preexec_fn=self._join_cgroup)

        def child():
            if self.nspawn.poll() is not None:
                raise LabError(f"systemd-nspawn ended: {(self.directory / 'console.log').read_text(errors='replace')[-800:]}")
            kids = open(f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children").read().split()
            return next((int(k) for k in kids if open(f"/proc/{k}/comm").read().strip() == "systemd"), None)

        self.init_pid = wait_for(child, 20, f"process 1 of {self.name}")

    def wait_booted(self, bound=60):
        wait_for(lambda: self.run(["systemctl", "is-system-running"], 10).out.strip() in ("running", "degraded"), bound,
                 f"{self.name} to finish booting", every=0.1)
        self.wait_sql(bound)

    def wait_sql(self, bound=60):
        wait_for(lambda: self.sql("SELECT 1") == "1", bound, f"the server of {self.name} to answer", every=0.1)

    def power_off(self):
        """Power loss: the network goes first, then every process at once, nothing is asked to stop."""
        net.unplug(self.name)
        self.thaw()
        for pid in (self.init_pid, self.nspawn.pid if self.nspawn else None):
            with contextlib.suppress(ProcessLookupError, TypeError):
                os.kill(pid, signal.SIGKILL)
        if self.nspawn:
            self.nspawn.wait(30)
        self.nspawn = self.init_pid = None
        run(["ip", "netns", "del", self.name])

    def freeze(self):
        """Every process of the box stands still at once; its kernel, and so its network, does not."""
        (self.cgroup / "cgroup.freeze").write_text("1")
        wait_for(lambda: "frozen 1" in (self.cgroup / "cgroup.events").read_text(), 5, f"{self.name} to stand still")

    def thaw(self):
        (self.cgroup / "cgroup.freeze").write_text("0")

    @property
    def powered(self):
        return self.nspawn is not None and self.nspawn.poll() is None

    def _join_cgroup(self):
        """A cgroup of its own: two systemds in one would see each other's services."""
        (self.cgroup / "cgroup.procs").write_text("0")

    # Commands and files

    def run(self, argv, timeout=60, stdin=None):
        """Run argv in the box as root; a string goes through sh -c."""
        if not self.powered:
            raise LabError(f"{self.name} is off")
        argv = ["sh", "-c", argv] if isinstance(argv, str) else argv
        enter = ["nsenter", "-t", str(self.init_pid), "-m", "-u", "-i", "-p", "-n", "-C", "-r", "-w", "env", "-i", "LC_ALL=C.UTF-8", "HOME=/root",
                 "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb"]
        return run([*enter, *argv], timeout, stdin)

    def sh(self, argv, timeout=60, stdin=None):
        return self.run(argv, timeout, stdin).check().out

    def sql(self, statement, timeout=20):
        """Run a statement as root over the socket with the distribution's own client; returns tab separated rows."""
        return self.sh([self.client, "-uroot", "--batch", "--skip-column-names", "-e", statement], timeout).strip()

    def read(self, path):
        return (self.root / path.lstrip("/")).read_text()

    def exists(self, path):
        return os.path.lexists(self.root / path.lstrip("/"))

    # Processes

    def service_pid(self, unit):
        """The service's main process as the lab sees it (0 when it does not run)."""
        inside = self.sh(["systemctl", "show", "-P", "MainPID", unit]).strip()
        return self.outer_pid(int(inside)) if inside != "0" else 0

    def mysqld_pid(self):
        return self.service_pid(self.unit)

    def agent_pid(self):
        return self.service_pid("mmha")

    def outer_pid(self, inside):
        """Translate a process id of the box by NSpid, looking only at processes of this box."""
        wanted = os.readlink(f"/proc/{self.init_pid}/ns/pid")
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/ns/pid") == wanted:
                    if re.search(r"(?m)^NSpid:.*\s(\d+)$", open(f"/proc/{entry}/status").read())[1] == str(inside):
                        return int(entry)
        raise LabError(f"{self.name} has no process {inside}")

    # The agent

    def mmha(self, *arguments, timeout=30):
        return self.run(["mmha", *arguments], timeout)

    def status(self):
        """`mmha status --json`, parsed; exit code 4 (degraded) is an answer too."""
        answer = self.mmha("status", "--json", timeout=5)
        if answer.rc not in (0, 4):
            answer.check()
        return json.loads(answer.out)

    def state(self):
        return self.status()["state"]

    def events(self, since):
        """The decisions recorded since the wall-clock time `since`, oldest first: [(rule, sentence)]."""
        after = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)) + f".{int(since % 1 * 1000):03d}Z"
        lines = self.mmha("events", "-n", "1000", "--json", timeout=10).check().out.splitlines()
        return [(event["rule"], event["sentence"]) for event in map(json.loads, lines) if event["time"] >= after]

    def wait_event(self, since, rule, words="", bound=20):
        """Wait until the operator can read rule `rule` with `words` in its sentence; returns the sentence."""
        return wait_for(lambda: next((text for number, text in self.events(since) if number == rule and words in text), None), bound,
                        f"rule {rule} with \"{words}\" in the events of {self.name}", every=0.1)

    def said_in_syslog(self, since, words):
        """Whether the agent has logged `words` since the wall-clock time `since`."""
        after = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
        return any(line[:19] >= after and "mmha[" in line and words in line for line in self.read("var/log/syslog").splitlines())

    def wait_warning(self, words, bound=20):
        """Wait until `mmha status` warns of something with `words` in it; returns that warning."""
        return wait_for(lambda: next((text for text in self.status()["warnings"] if words in text), None), bound,
                        f"a warning with \"{words}\" in the status of {self.name}", every=0.1)

    def holds_vip(self):
        return self.powered and bool(self.held([net.VIP]))

    def held(self, vips):
        """Which of these addresses the box's kernel has."""
        here = net.in_ns(self.name, ["ip", "-o", "-4", "addr"]).out.replace("/", " ").split()
        return [vip for vip in vips if vip in here]
