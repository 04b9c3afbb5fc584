"""The boxes' template: the lab's MariaDB template with the other agents' packages beside it, so that every agent meets the same system.

Made once from the lab's own template and kept beside it. Refuses to start or enable anything: each agent under test enables itself.
"""

import hashlib
import inspect
import os
import shutil
import sys

from mmhalab import sandbox, templates
from mmhalab.sh import run, sh

PACKAGES = ("heartbeat", "keepalived")
UNITS = (*PACKAGES, "logd")  # logd comes with heartbeat, which logs to its own file here


def peers_template():
    """The path of the finished template; builds it when this machine has none yet."""
    base = templates.template("mariadb")
    key = hashlib.sha256((base.name + repr((PACKAGES, UNITS)) + inspect.getsource(_install)).encode()).hexdigest()[:12]
    cache = templates.cache_dir()
    final = cache / f"bench-{key}"
    with templates.locked(cache / "bench.lock"):
        for old in cache.glob("bench-*.new"):
            shutil.rmtree(old)
        if not final.is_dir():
            print("bench: making the template with heartbeat and keepalived, once; takes about a minute", file=sys.stderr)
            fresh = final.with_name(final.name + ".new")
            sh(["cp", "-a", "--reflink=auto", base, fresh], 300)
            _install(fresh)
            os.sync()
            fresh.rename(final)
    return final


def _install(root):
    """Without recommendations: they would bring pacemaker, which is another cluster manager."""
    guard = root / "usr/sbin/policy-rc.d"
    guard.write_text("#!/bin/sh\nexit 101\n")
    guard.chmod(0o755)
    sandbox.mount("proc", str(root / "proc"), "proc")
    chroot, env = ["chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"], templates.apt_proxy()
    apt = [*chroot, "apt-get", "-o", "Acquire::Check-Valid-Until=false"]
    try:
        run([*apt, "update"], 300, env=env).check()
        run([*apt, "install", "-y", "--no-install-recommends", *PACKAGES], 1200, env=env).check()
        run([*chroot, "systemctl", "disable", *UNITS]).check()
        sh([*chroot, "apt-get", "clean"])
        shutil.rmtree(root / "var/lib/apt/lists")
        (root / "var/lib/apt/lists/partial").mkdir(parents=True)
    finally:
        sandbox.umount(str(root / "proc"))
        guard.unlink()
