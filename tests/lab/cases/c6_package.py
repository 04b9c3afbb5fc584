"""The package: install, upgrade under load, remove, purge."""

import time

from mmhalab.measure import Measure
from mmhalab.sh import ensure, run, wait_for


def _newer(lab):
    """The same package with a higher version."""
    tree, package = lab.directory / "newer", lab.directory / "mmha-newer.deb"
    run(["dpkg-deb", "-R", lab.deb, tree]).check()
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: ", "Version: 9:"))
    run(["dpkg-deb", "--build", "--root-owner-group", tree, package]).check()
    return package


def install_unconfigured(lab):
    """Installing does not start an unconfigured service, enables it for later, and brings a static program with its manual."""
    first, _ = lab.fresh()
    ensure(first.run("systemctl is-enabled mmha").out.strip() == "enabled", "the unit is not enabled")
    ensure(first.run("systemctl is-active mmha").out.strip() == "inactive", "the unconfigured service runs")
    ensure("not a dynamic executable" in first.run("ldd /usr/sbin/mmha 2>&1").out or "statically" in first.run("ldd /usr/sbin/mmha 2>&1").out, "not static")
    for path in ("usr/share/man/man8/mmha.8.gz", "usr/share/man/man5/mmha.toml.5.gz", "usr/share/doc/mmha/examples/mmha.toml", "usr/share/doc/mmha/copyright"):
        ensure(first.exists(path), f"/{path} is missing")
    ensure(first.sh("stat -c %a /etc/mmha /var/lib/mmha").split() == ["755", "700"], "wrong permissions")
    ensure(first.mmha("status").rc in (1, 3, 4), "status of an unconfigured node says all is well")


def upgrade_under_load(lab):
    """An upgrade on both nodes restarts the agents: the address does not move."""
    lab.pair()
    package = _newer(lab)
    with Measure(lab) as load:
        start = time.monotonic()
        for box in reversed(lab.boxes):
            old = box.agent_pid()
            lab.install(box, package)
            wait_for(lambda box=box, old=old: box.agent_pid() not in (0, old), 20, f"the new agent of {box.name}")
            lab.wait_steady()
        outage, writes = load.outage_since(start)
        figures = load.finish()
    figures.ensure_safe()
    ensure(all(names == ["db-01"] for _, names in figures.holders), f"the VIP moved: {figures.holders}")
    ensure(outage <= 1, f"outage {outage:.2f} s at an upgrade")
    return f"outage {outage:.2f} s (writes {writes:.2f}), {figures}"


def remove_and_purge(lab):
    """remove on the holder hands over and takes our rules along; purge leaves nothing of ours on the disk."""
    first, second = lab.pair()
    lab.serving = False
    first.sh("dpkg --remove mmha", 60)
    wait_for(lambda: second.holds_vip() and not first.holds_vip(), 20, "db-02 to take over from the removed agent")
    ensure("mmha" not in first.run("nft list ruleset; iptables -S").out.lower(), "rules of ours are left")
    ensure(first.exists("etc/mmha/mmha.toml"), "remove took the configuration")
    first.sh("dpkg --purge mmha", 60)
    left = first.sh(r"find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /var/lib/mysql -o -path /var/log \) -prune -o -iname '*mmha*' -print").split()
    left = [path for path in left if not path.startswith(("/sys/", "/var/lib/mysql/"))]
    ensure(not left, f"purge left {left}")
    first.sh(f"systemctl restart {first.unit}")
    first.wait_sql()
    ensure(first.sql("SELECT @@global.read_only") == "0", "the server is still read-only after purge and restart")
