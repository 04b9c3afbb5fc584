"""An etcd of three members on the lab's switch, each in a network namespace of its own. Debian's program, unpacked by tests/lab/prepare.

Members can be killed and started again with their data; the namespace of one can be cut from a box. Refuses to use the machine's own etcd.
"""

import contextlib
import os
import signal
import subprocess

from . import net, templates
from .sh import LabError, run, sh, wait_for

MEMBERS = (("etcd-1", "192.0.2.21"), ("etcd-2", "192.0.2.22"), ("etcd-3", "192.0.2.23"))
ENDPOINTS = [f"http://{address}:2379" for _, address in MEMBERS]


class Etcd:
    def __init__(self, directory):
        self.directory = directory / "etcd"
        self.directory.mkdir()
        self.program = templates.cache_dir() / "etcd/usr/bin/etcd"
        self.processes = {}

    def start(self):
        for name, address in MEMBERS:
            sh(["ip", "netns", "add", name])
            sh(["ip", "-n", name, "link", "set", "lo", "up"])
            net.plug(name, address)
        self.run_members([name for name, _ in MEMBERS])
        self.wait_healthy()
        return self

    def run_members(self, names):
        """Start these members; those that were killed find their data."""
        cluster = ",".join(f"{name}=http://{address}:2380" for name, address in MEMBERS)
        for name, address in MEMBERS:
            if name not in names:
                continue
            argv = ["nsenter", f"--net={net.netns(name)}", self.program, "--name", name, "--data-dir", self.directory / name,
                    "--listen-client-urls", f"http://{address}:2379", "--advertise-client-urls", f"http://{address}:2379",
                    "--listen-peer-urls", f"http://{address}:2380", "--initial-advertise-peer-urls", f"http://{address}:2380",
                    "--initial-cluster", cluster, "--initial-cluster-token", "lab", "--unsafe-no-fsync"]
            with open(self.directory / f"{name}.log", "ab") as log:
                self.processes[name] = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, names):
        """Power loss of these members."""
        for name in names:
            process = self.processes.pop(name)
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def leader(self):
        """The member that leads, asked over HTTP by each that runs."""
        for name, address in MEMBERS:
            if name in self.processes:
                status = self.ask(name, address, "maintenance/status", "{}")
                if f'"member_id":"{value(status, "leader")}"' in status:
                    return name
        raise LabError("no member of etcd leads")

    def ask(self, name, address, path, body):
        """One question to the JSON gateway, from the member's own namespace."""
        script = ("import sys,urllib.request as u; print(u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode()), timeout=2).read().decode())")
        return net.in_ns(name, ["/usr/bin/python3", "-c", script, f"http://{address}:2379/v3/{path}", body]).check().out

    def wait_healthy(self, bound=30):
        """A majority answers a read."""
        name, address = next(member for member in MEMBERS if member[0] in self.processes)
        wait_for(lambda: self.ask(name, address, "kv/range", '{"key":"eA=="}'), bound, "etcd to answer", every=0.2)

    def stop(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
        self.processes = {}
        for name, _ in MEMBERS:
            net.unplug(name)
            run(["ip", "netns", "del", name])
        run(["rm", "-rf", self.directory])


def value(text, key):
    """The text value of a key in flat JSON; '' when it is not there."""
    return text.partition(f'"{key}":"')[2].partition('"')[0]
