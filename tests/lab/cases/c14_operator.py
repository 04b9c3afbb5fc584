"""What an operator does to a running pair: pause and resume, and a fencing command."""

import os
import signal
import time

from mmhalab.sh import ensure, wait_for

FENCE = """#!/bin/sh
# A power switch as the lab has it: it works when somebody has left a note.
echo "$@" >>/root/fence.log
test -e /root/fence.works || { echo 'the power switch does not answer' >&2; exit 3; }
"""


def _sentence(box, rule, *words, bound=20):
    def there():
        status = box.status()
        return status["rule"] == rule and all(word in status["sentence"] for word in words)
    wait_for(there, bound, f"rule {rule} {words} at {box.name}", every=0.1)


def paused_pair_stays(lab):
    """Paused at the standby: the holder's server restarts, and the address stays; the holder loses power, and nobody takes it until resume."""
    holder, standby = lab.pair()
    lab.serving = False
    said = standby.mmha("pause", "--for", "10m").check().out
    ensure("10 min" in said, said)
    wait_for(lambda: any("paused" in warning for warning in holder.status()["warnings"]), 5, "the holder to know of the pause")
    refused = holder.mmha("switchover")
    ensure(refused.rc == 5 and "paused" in refused.err, f"switchover ended with {refused.rc}: {refused.out}{refused.err}")
    holder.sh(["systemctl", "restart", holder.unit], 60)
    wait_for(lambda: lab.client("INSERT INTO shop.numbered (writer, n) VALUES ('paused', 1)").ok, 30, "a write after the restart")
    ensure(holder.state() == "active" and standby.state() == "standby", "the address moved in a pause")
    wait_for(lambda: standby.sql("SELECT COUNT(*) FROM shop.numbered WHERE writer='paused'") == "1", 20, "the row on the standby")
    wait_for(lambda: holder.status()["replication"]["protected"], 20, "the holder to be protected again")
    holder.power_off()
    _sentence(standby, 68, "Paused", "mmha resume")
    ensure(not standby.holds_vip(), "the address was taken in a pause")
    standby.mmha("resume").check()
    wait_for(lambda: lab.client("SELECT COUNT(*) FROM shop.numbered WHERE writer='paused'").out.strip() == "1", 10, "the survivor to serve")
    holder.boot()
    lab.wait_steady()
    lab.serving = True


def fenced_before_taken_over(lab):
    """With a fencing command a silent holder is not taken over from before the command has succeeded; its words are in the sentence."""
    holder, standby = lab.pair()
    lab.serving = False
    for box in lab.boxes:
        script = box.root / "usr/local/sbin/fence-peer"
        script.write_text(FENCE)
        script.chmod(0o755)
        config = box.root / "etc/mmha/mmha.toml"
        config.write_text(config.read_text().replace("[heartbeat]", '[heartbeat]\nfence_command = ["/usr/local/sbin/fence-peer", "--off"]'))
    for box in (standby, holder):
        box.sh(["systemctl", "restart", "mmha"], 60)
        lab.wait_steady()
    holder.power_off()
    _sentence(standby, 15, "fence-peer", "ended with 3", "the power switch does not answer")
    ensure(not standby.holds_vip(), "taken over from a node that may live")
    (standby.root / "root/fence.works").touch()
    wait_for(lambda: lab.client("SELECT 1").ok, 15, "the survivor to serve once its peer is fenced")
    told = standby.read("root/fence.log").split("\n")[0]
    ensure(told == f"--off {holder.name} {holder.address}", f"the command was given {told!r}")
    holder.boot()
    lab.wait_steady()


def flap_brake_holds_the_address(lab):
    """With a brake of one departure: a hung server lets the address go once. The second time it stays, and the sentence says that it does
    not move; `mmha resume` releases the brake, and the third time it goes again."""
    holder, standby = lab.pair()
    lab.serving = False
    for box in (standby, holder):
        config = box.root / "etc/mmha/mmha.toml"
        config.write_text(config.read_text().replace("flap_count = 0", "flap_count = 1"))
        box.sh(["systemctl", "restart", "mmha"], 60)
        lab.wait_steady()

    def hang():
        pid, wall = holder.mysqld_pid(), time.time()
        os.kill(pid, signal.SIGSTOP)
        return pid, wall

    holder.mmha("resume").check()  # the restarts have moved it too
    hang()  # the agent kills it when it lets go, systemd starts it
    wait_for(standby.holds_vip, 15, "the standby to take the address")
    lab.wait_steady()
    pid, wall = hang()
    said = holder.wait_event(wall, 51, "does not move")
    time.sleep(3)
    ensure(holder.holds_vip() and not standby.holds_vip(), "the address moved although the brake is on")
    os.kill(pid, signal.SIGCONT)
    lab.wait_steady()
    holder.mmha("resume").check()
    hang()
    wait_for(standby.holds_vip, 15, "the standby to take the address after resume")
    lab.wait_steady()
    return f"\"{said}\""
