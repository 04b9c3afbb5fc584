"""The demo: the story of a pair with the real commands, a timeline with what clients measured, and the table of figures.

Uses the lab's own boxes and judges by the same promises; it fails when one is broken. Nothing here is simulated.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from mmhalab import net, sandbox  # noqa: E402
from mmhalab.lab import INIT, Lab, describe, together  # noqa: E402
from mmhalab.measure import Measure  # noqa: E402
from mmhalab.sh import LabError  # noqa: E402

IDLE_SECONDS = 10
REST_SECONDS = 5  # after a takeover the agents look at their servers as often as they can for 2 s
begin = time.monotonic()


def say(text):
    print(f"{time.monotonic() - begin:6.1f} s  {text}\n", end="", flush=True)


def typed(box, command, show=0):
    """Run a command in a box as a user would and show it, with the first `show` lines of its answer."""
    say(f"{box.name}# {command}")
    answered(box.run(command, 300).check(), show)


def typed_on_both(lab, command, show=0):
    """The same at the same time on both; db-01's answer is shown."""
    say(f"db-01# {command}     db-02# {command}     (at the same time)")
    answers = together(*(lambda box=box: box.run(command, 300).check() for box in lab.boxes))
    answered(answers[0], show)


def answered(answer, show):
    for line in answer.out.splitlines()[:show]:
        print(f"            {line}")


def set_up(lab):
    say("two bare Debian boxes boot, each with a database server as packaged")
    first, second = lab.fresh(install=False)
    say(f"they answer: {first.sql('SELECT @@version')}")
    say(f"db-01# dpkg -i {lab.deb.name}     db-02# dpkg -i {lab.deb.name}")
    together(*(lambda box=box: lab.install(box) for box in lab.boxes))
    typed(first, "mmha " + " ".join(INIT), show=12)
    lab.copy_config(first, second)
    say("/etc/mmha is copied to db-02 (from outside: the boxes have no ssh)")
    typed_on_both(lab, "mmha bootstrap", show=40)
    typed_on_both(lab, "systemctl enable --now mmha")
    lab.wait_steady(90)
    typed(first, "mmha status", show=20)
    first.sql("CREATE USER app@'%' IDENTIFIED BY 'app-password'; GRANT ALL ON shop.* TO app@'%'")
    say(f"client$ mariadb -h {net.VIP} -e 'CREATE DATABASE shop'")
    lab.make_application()
    say("the database is on both nodes")


def strike(lab, what, fault, repair):
    """One fault under load and its repair; returns the client outage."""
    first, _ = lab.boxes
    with Measure(lab) as load:
        broken = time.monotonic()
        say(what)
        fault(first)
        load.wait_served_by("db-02", broken, 40)
        outage, writes = load.outage_since(broken)
        say(f"    the address answers from db-02; clients could not read for {outage:.2f} s, not write for {writes:.2f} s")
        back = time.monotonic()
        repair(first)
        load.wait_holder("db-01", 150)
        load.wait_served_by("db-01", back, 30)
        home, _ = load.outage_since(back)
        lab.wait_steady()
        figures = load.finish()
        say(f"    db-01 is back, caught up, and holds the address again (outage {home:.2f} s)")
        say(f"    {figures}")
    figures.ensure_safe()
    return outage


def idle(box):
    """(resident megabytes, per cent of one core) of the agent over a quiet stretch."""
    pid = box.agent_pid()

    def used():  # the service's control group counts every nanosecond of every thread and child; a process's own clock counts ticks
        return int(box.sh("cat /sys/fs/cgroup/system.slice/mmha.service/cpu.stat").split()[1]) / 1e6

    time.sleep(REST_SECONDS)
    before, start = used(), time.monotonic()
    time.sleep(IDLE_SECONDS)  # the length of the measurement
    share = (used() - before) / (time.monotonic() - start)
    resident = next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
    return resident / 1024, share * 100


def story(deb):
    with Lab(deb) as lab:
        try:
            return tell(lab)
        except LabError as error:
            print(f"\nthe demo failed: {error}\n" + "\n".join(describe(box) for box in lab.boxes))
            return 1


def tell(lab):
    set_up(lab)
    first = lab.boxes[0]
    rows = [("client outage, systemctl stop mmha", strike(
        lab, "db-01# systemctl stop mmha", lambda box: box.sh("systemctl stop mmha"), lambda box: box.sh("systemctl start mmha")), 0.3, "s")]
    rows.append(("client outage, mysqld killed", strike(
        lab, "db-01# kill -9 mysqld", lambda box: os.kill(box.mysqld_pid(), signal.SIGKILL), lambda box: box.wait_sql()), 0.5, "s"))
    rows.append(("client outage, power loss", strike(
        lab, "db-01 loses power", lambda box: box.power_off(), lambda box: (say("    db-01 is switched on again"), box.boot())), 3, "s"))
    typed(first, "mmha events -n 12", show=12)
    (rss_holder, cpu_holder), (rss_standby, cpu_standby) = together(*(lambda box=box: idle(box) for box in lab.boxes))
    binary = (first.root / "usr/sbin/mmha").stat().st_size / 1e6
    rows += [("resident memory, holder", rss_holder, 12, "MB"), ("resident memory, standby", rss_standby, 12, "MB"),
             (f"CPU over {IDLE_SECONDS} s idle, holder", cpu_holder, 0.5, "%"), (f"CPU over {IDLE_SECONDS} s idle, standby", cpu_standby, 0.5, "%"),
             ("static program", binary, 6, "MB")]
    print(f"\n{'figure':<38}{'measured':>12}{'to reach':>14}")
    for name, value, target, unit in rows:
        print(f"{name:<38}{value:>9.2f} {unit:<2}{target:>11g} {unit:<2}{'' if value <= target else '  missed'}")
    return 0


def main():
    parser = argparse.ArgumentParser(description="mmha's story on real boxes")
    parser.add_argument("--deb", help="a package to use instead of building one")
    options = parser.parse_args()
    deb = options.deb
    if deb is None:
        say("building the package")
        built = subprocess.run([HERE.parent.parent / "packaging/build-deb"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        if built.returncode != 0:
            sys.exit(built.stderr)
        deb = built.stdout.strip().splitlines()[-1]
    try:
        sys.exit(sandbox.run_inside(lambda: story(os.path.abspath(deb))))
    except LabError as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
