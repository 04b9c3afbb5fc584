"""How each agent is set up, started, stopped and brought back to rest. The pair under it: joined by hand for the others, by itself for mmha.

Refuses to help while a case is being measured; what a person would have to do by hand is done between the phases and said.
"""

import contextlib
import hashlib
import re

from mmhalab import net
from mmhalab.lab import together
from mmhalab.sh import LabError, wait_for

from . import handmade
from .template import peers_template

HEARTBEAT = """logfile /var/log/ha-log
use_logd no
keepalive {keepalive}
warntime {warntime}
deadtime {deadtime}
initdead {initdead}
udpport 694
ucast eth0 {peer}
auto_failback on
node db-01
node db-02
"""
UNIT = """[Service]
Type=forking
GuessMainPID=no
PIDFile=
ExecStart=
ExecStart=/usr/libexec/heartbeat/heartbeat
LimitMEMLOCK=infinity
"""
KEEPALIVED = """global_defs {{
    router_id {name}
    vrrp_version {version}
    enable_script_security
    script_user root
}}
vrrp_script chk_mysql {{
    script "/etc/keepalived/check-mysql"
    interval 1
    timeout 1
    fall {votes}
    rise {votes}
}}
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int {advert}
    virtual_ipaddress {{
        {vip}/24 dev eth0
    }}
    track_script {{
        chk_mysql
    }}
}}
"""
CHECK = "#!/bin/sh\nexec timeout 0.9 mariadb --no-defaults -uroot --socket=/run/mysqld/mysqld.sock -e 'SELECT 1' >/dev/null 2>&1\n"


class Agent:
    """What all have in common: one unit of systemd on each box. Subclasses write the configuration."""

    def __init__(self, variant, lab):
        self.variant, self.lab = variant, lab
        self.unit = variant.kind

    def set_up(self):
        """Fresh boxes to a serving pair."""
        boxes = self.lab.fresh(install=False, template=peers_template())
        handmade.join(boxes)
        for box, peer in zip(boxes, reversed(boxes)):
            self.configure(box, peer)
        self.start_all()
        self.wait_rest(90)

    def start_all(self):
        together(*(lambda box=box: box.sh(["systemctl", "enable", "--now", self.unit], 100) for box in self.lab.boxes))

    def signal(self, box, name):
        """To every process of the agent."""
        box.sh(["systemctl", "kill", "-s", name, "--kill-who=all", self.unit])

    def at_home(self):
        first, second = self.lab.boxes
        return first.holds_vip() and not second.holds_vip()

    def wait_rest(self, bound=60):
        """db-01 alone holds the address, both servers have everything."""
        wait_for(self.at_home, bound, "db-01 alone to hold the VIP", every=0.1)
        handmade.settle(self.lab.boxes)

    def catch_up(self):
        """Replication as a person would start it again after a failure."""
        handmade.nudge(self.lab.boxes)

    def asks(self):
        """Whether it says that it will not go on without a person."""
        return False

    def mend(self):
        """What an operator does when the pair did not come back by itself."""
        for box in self.lab.boxes:
            box.run(["systemctl", "kill", "-s", "CONT", "--kill-who=all", self.unit])
            self.stop_hard(box)
        self.catch_up()
        self.start_all()
        self.wait_rest(120)

    def stop_hard(self, box):
        box.run(["systemctl", "stop", self.unit], 40)
        box.run(["systemctl", "kill", "-s", "KILL", "--kill-who=all", self.unit])
        box.run(["systemctl", "reset-failed", self.unit])
        box.run(["ip", "addr", "del", f"{net.VIP}/{net.PREFIX}", "dev", "eth0"])

    def version(self, box):
        return box.sh(["dpkg-query", "-W", "-f", "${Version}", self.unit]).strip()


class Heartbeat(Agent):
    """With a drop-in that is kinder to it than the package: after a partition it restarts itself in a new process, and the packaged unit takes
    the end of the old one for the end of the service and stops the new one, on one node or both, for good."""

    def configure(self, box, peer):
        extra = box.root / "etc/systemd/system/heartbeat.service.d/restart.conf"
        extra.parent.mkdir()
        extra.write_text(UNIT)
        box.sh(["systemctl", "daemon-reload"])
        place = box.root / "etc/ha.d"
        (place / "ha.cf").write_text(HEARTBEAT.format(peer=peer.address, **self.variant.settings))
        (place / "haresources").write_text(f"db-01 IPaddr2::{net.VIP}\n")
        (place / "authkeys").write_text("auth 1\n1 sha1 lab-secret\n")
        (place / "authkeys").chmod(0o600)  # it refuses to start when others may read them


class Keepalived(Agent):
    def configure(self, box, peer):
        place = box.root / "etc/keepalived"
        priority = 150 if box.name == "db-01" else 100
        (place / "keepalived.conf").write_text(KEEPALIVED.format(name=box.name, priority=priority, vip=net.VIP, **self.variant.settings))
        (place / "check-mysql").write_text(CHECK)
        (place / "check-mysql").chmod(0o755)


class Mmha(Agent):
    """The pair is made by its own commands, with the packaged unit and the configuration that `mmha init` writes."""

    def set_up(self):
        lab = self.lab
        lab.fresh(template=peers_template())
        lab.configure()
        first, second = lab.boxes
        config = first.root / "etc/mmha/mmha.toml"
        config.write_text(adapted(config.read_text(), self.variant.settings))
        lab.copy_config(first, second)
        for result in lab.bootstrap():
            result.check()
        self.start_all()
        lab.wait_steady(90)
        lab.make_application()

    def wait_rest(self, bound=60):
        self.lab.wait_steady(bound)

    def catch_up(self):
        """It does so itself."""

    def version(self, box):
        """With a mark of the program itself: many builds have one version."""
        program = hashlib.sha256((box.root / "usr/sbin/mmha").read_bytes()).hexdigest()[:8]
        return f"{super().version(box)} (program {program})"

    def asks(self):
        return bool(self.quarantined())

    def quarantined(self):
        """Boxes with rows that the other one lacks: the manual's answer is `mmha rejoin`."""
        found = []
        for box in self.lab.boxes:
            with contextlib.suppress(LabError, ValueError):
                found += [box] if box.state() == "quarantined" else []
        return found

    def mend(self):
        for box in self.quarantined():
            box.mmha("rejoin", "--merge", timeout=120).check()
        self.start_all()
        self.wait_rest(90)


def adapted(text, settings):
    """mmha.toml with the lines of a variant in place of those of the same keys."""
    for section, lines in settings.items():
        head, body = re.split(rf"(?m)^\[{section}\]\n", text)
        body, *rest = re.split(r"(?m)^(?=\[)", body, maxsplit=1)
        keys = {line.split(" = ")[0] for line in lines}
        kept = [line for line in body.splitlines(True) if line.split(" = ")[0].strip() not in keys]
        text = f"{head}[{section}]\n" + "".join(f"{line}\n" for line in lines) + "".join(kept) + "".join(rest)
    return text


KINDS = {"heartbeat": Heartbeat, "keepalived": Keepalived, "mmha": Mmha}


def agent(variant, lab):
    return KINDS[variant.kind](variant, lab)
