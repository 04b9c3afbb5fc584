"""An etcd of three members on the lab's switch, each in a network namespace of its own. Debian's program, unpacked by tests/lab/prepare.

With tls=True it listens for clients by https only and lets in only who shows a certificate of its CA; the files are in `tls`.
Members can be killed and started again with their data; the namespace of one can be cut from a box. Refuses to use the machine's own etcd.
"""

import contextlib
import os
import signal
import subprocess

from . import net, templates
from .sh import LabError, run, sh, wait_for

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
MEMBERS = (("etcd-1", "192.0.2.21"), ("etcd-2", "192.0.2.22"), ("etcd-3", "192.0.2.23"))


class Etcd:
    def __init__(self, directory, tls=False):
        self.directory = directory / "etcd"
        self.directory.mkdir()
        self.tls = self.directory / "tls" if tls else None
        if tls:
            self.tls.mkdir()
            make_ca(self.tls, "ca")
            # Its JSON gateway shows the member's own certificate to the member: it must be one for clients too.
            sans = ",".join(f"DNS:{name},IP:{address}" for name, address in MEMBERS)
            make_certificate(self.tls, "member", "ca", sans)
            make_certificate(self.tls, "node", "ca", "DNS:mmha")
        self.scheme = "https" if tls else "http"
        self.endpoints = [f"{self.scheme}://{address}:2379" for _, address in MEMBERS]
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
        tls = []
        if self.tls:
            tls = ["--cert-file", self.tls / "member.pem", "--key-file", self.tls / "member.key", "--client-cert-auth", "--trusted-ca-file",
                   self.tls / "ca.pem"]
        for name, address in MEMBERS:
            if name not in names:
                continue
            client = f"{self.scheme}://{address}:2379"
            argv = ["nsenter", f"--net={net.netns(name)}", self.program, "--name", name, "--data-dir", self.directory / name,
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", f"http://{address}:2380", "--initial-advertise-peer-urls", f"http://{address}:2380",
                    "--initial-cluster", cluster, "--initial-cluster-token", "lab", "--unsafe-no-fsync", *tls]
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
        script = ("import sys,ssl,urllib.request as u; url, body, *tls = sys.argv[1:]; "
                  "c = tls and ssl.create_default_context(cafile=tls[0]) or None; c and c.load_cert_chain(*tls[1:]); "
                  "print(u.urlopen(u.Request(url, body.encode()), timeout=2, context=c).read().decode())")
        tls = [str(self.tls / file) for file in ("ca.pem", "node.pem", "node.key")] if self.tls else []
        return net.in_ns(name, ["/usr/bin/python3", "-c", script, f"{self.scheme}://{address}:2379/v3/{path}", body, *tls]).check().out

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


def openssl(*argv):
    sh(["openssl", *map(str, argv)])


def make_ca(directory, name):
    """NAME.pem and NAME.key: a CA of its own."""
    files = ["-keyout", directory / f"{name}.key", "-out", directory / f"{name}.pem"]
    openssl("req", "-x509", *NEW_KEY, *files, "-days", 30, "-subj", f"/CN={name} of the lab")


def make_certificate(directory, name, ca, sans):
    """NAME.pem and NAME.key, for servers and clients, signed by that CA."""
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    openssl("req", *NEW_KEY, "-keyout", directory / f"{name}.key", "-out", request, "-subj", f"/CN={name}")
    extensions.write_text(f"subjectAltName={sans}\nextendedKeyUsage=serverAuth,clientAuth\n")
    signer = ["-CA", directory / f"{ca}.pem", "-CAkey", directory / f"{ca}.key", "-CAcreateserial"]
    openssl("x509", "-req", "-in", request, *signer, "-days", 30, "-extfile", extensions, "-out", directory / f"{name}.pem")


def value(text, key):
    """The text value of a key in flat JSON; '' when it is not there."""
    return text.partition(f'"{key}":"')[2].partition('"')[0]
