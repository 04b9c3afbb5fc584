"""Templates: whole Debian systems with a database server, made once by debootstrap and kept outside the checkout.

Keyed by a hash of the recipe; built under a temporary name and renamed, so an interrupted build is never used. Refuses to
name a mirror of its own: it takes the machine's.
"""

import contextlib
import fcntl
import hashlib
import inspect
import os
import re
import shutil
import sys
from pathlib import Path

from . import sandbox
from .sh import LabError, run, sh

BASE = (
    "systemd,systemd-sysv,dbus,iproute2,iptables,nftables,rsyslog,procps,iputils-ping,iputils-arping,less,openssl"
)
RECIPES = {
    "mariadb": {"suite": "bookworm", "server": "mariadb-server", "unit": "mariadb"},
    "mysql": {"suite": "sid", "server": "mysql-server", "unit": "mysql"},
}
# Timers and helpers that would only make noise in a box.
MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer logrotate.timer man-db.timer "
    "systemd-tmpfiles-clean.timer getty@tty1.service console-getty.service"
).split()


def cache_dir():
    base = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "mmha-lab"
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    return base


@contextlib.contextmanager
def locked(path):
    """Hold an exclusive lock; the second of two runs waits here for the first one's template."""
    with open(path, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def recipe_key(flavor):
    text = repr((RECIPES[flavor], BASE, MASKED)) + inspect.getsource(_build) + inspect.getsource(_settle)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def template(flavor):
    """The path of a finished template; builds it when this machine has none yet."""
    cache = cache_dir()
    final = cache / f"{flavor}-{recipe_key(flavor)}"
    with locked(cache / f"{flavor}.lock"):
        for old in cache.glob(f"{flavor}-*.new"):
            shutil.rmtree(old)
        if not final.is_dir():
            print(f"lab: making the {flavor} template ({RECIPES[flavor]['suite']}), once; takes one to three minutes", file=sys.stderr)
            fresh = final.with_name(final.name + ".new")
            _build(flavor, fresh)
            os.sync()
            fresh.rename(final)
    return final


def mirror():
    """The archive this machine's own apt uses for Debian's main component."""
    for source in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        text = source.read_text(errors="replace") if source.is_file() else ""
        for stanza in re.split(r"\n\s*\n", text) if source.suffix == ".sources" else ():
            fields = dict(re.findall(r"(?m)^([A-Za-z-]+):\s*(.*)$", stanza))
            suites = fields.get("Suites", "").split()
            if "main" in fields.get("Components", "").split() and any(s and "security" not in s and "updates" not in s for s in suites):
                return fields["URIs"].split()[0]
        for line in text.splitlines() if source.suffix == ".list" else ():
            found = re.match(r"deb\s+(?:\[.*?\]\s*)?(\S+)\s+(\S+)\s+.*\bmain\b", line)
            if found and "security" not in found[2] and "/debian" in found[1]:
                return found[1]
    raise LabError("no Debian archive with component main in /etc/apt/sources.list(.d): this machine is not Debian; the lab needs one")


def apt_proxy():
    found = re.search(r'Acquire::http::Proxy "([^"]+)"', run(["apt-config", "dump"]).out)
    return {**os.environ, "http_proxy": found[1]} if found else None


def _build(flavor, root):
    recipe = RECIPES[flavor]
    script = f"/usr/share/debootstrap/scripts/{recipe['suite']}"
    if not os.path.exists(script):
        raise LabError(f"debootstrap does not know the suite {recipe['suite']}: {script} is missing")
    argv = ["debootstrap", "--variant=minbase", f"--include={BASE}", recipe["suite"], root, mirror()]
    run(argv, timeout=1200, env=apt_proxy()).check()
    guard = root / "usr/sbin/policy-rc.d"
    guard.write_text("#!/bin/sh\nexit 101\n")
    guard.chmod(0o755)
    sandbox.mount("proc", str(root / "proc"), "proc")
    try:
        chroot = ["chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"]
        env = apt_proxy()
        apt = [*chroot, "apt-get", "-o", "Acquire::Check-Valid-Until=false"]  # a frozen mirror is as good as any
        run([*apt, "update"], 300, env=env).check()
        run([*apt, "install", "-y", "--no-install-recommends", recipe["server"]], 1200, env=env).check()
        _settle(chroot, flavor, root)
    finally:
        sandbox.umount(str(root / "proc"))
        guard.unlink()


def _settle(chroot, flavor, root):
    """What a box should find at its first boot: an initialised datadir, a quiet init, syslog in a file."""
    datadir = root / "var/lib/mysql"
    if flavor == "mysql" and not (datadir / "mysql.ibd").exists():
        sh([*chroot, "mysqld", "--initialize-insecure", "--user=mysql"], 300)
    if not (datadir / "ibdata1").exists():
        raise LabError(f"the {flavor} template has no initialised datadir")
    (datadir / "auto.cnf").unlink(missing_ok=True)  # server_uuid must differ between boxes
    sh([*chroot, "apt-get", "clean"])
    shutil.rmtree(root / "var/lib/apt/lists")
    (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    rsyslog = root / "etc/rsyslog.conf"
    rsyslog.write_text(re.sub(r'(?m)^(module\(load="imklog"|\$ModLoad imklog)', r"#\1", rsyslog.read_text()))
    journal = root / "etc/systemd/journald.conf.d/lab.conf"
    journal.parent.mkdir(exist_ok=True)
    journal.write_text("[Journal]\nStorage=volatile\nForwardToSyslog=yes\nRateLimitBurst=0\n")
    for name in ("etc/machine-id", "etc/hostname"):
        (root / name).write_text("uninitialized\n" if name.endswith("id") else "box\n")
