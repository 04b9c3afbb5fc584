"""A private mount and process namespace for one run of the lab.

Everything a run makes (mounts, named network namespaces, boxes, helpers) lives in here, so the kernel itself takes it away when
the run ends, however it ends, and two runs side by side cannot meet. Refuses to touch the machine's own network or mounts.
"""

import ctypes
import os
import signal
import sys
import traceback

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE, MS_NOSUID = 0x4000, 0x40000, 2
PR_SET_PDEATHSIG = 1
CGROUPS = "/run/systemd/nspawn/cgroup"  # the unified hierarchy, wherever the machine has it
outer_pid = 0  # process id of the sandbox's process 1 as the machine sees it
libc = ctypes.CDLL(None, use_errno=True)


def check(rc, what):
    if rc != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source, target, kind, flags=0, data=""):
    """mount(2); all arguments are strings."""
    check(libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()), f"mount {kind} on {target}")


def umount(target):
    """Lazy umount(2): a still busy mount disappears with its last user."""
    check(libc.umount2(target.encode(), 2), f"umount {target}")


def enter_netns(path):
    """Move the calling thread into the network namespace at path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(libc.setns(fd, CLONE_NEWNET), f"setns {path}")
    finally:
        os.close(fd)


def run_inside(main):
    """Fork main() into the sandbox and return its exit status; SIGINT and SIGTERM are passed on, then bounded by SIGKILL."""
    check(libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare (are you root?)")
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    child = os.fork()
    if child == 0:
        os._exit(_child(main))

    def forward(signum, _frame):
        os.kill(child, signal.SIGTERM)
        signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
        signal.alarm(30)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, forward)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1


def _child(main):
    """Process 1 of the sandbox: when it ends, the kernel kills every process in here."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    global outer_pid
    outer_pid = int(os.readlink("/proc/self"))  # the old /proc still tells how the outside sees us
    for target, kind in (("/proc", "proc"), ("/run/netns", "tmpfs"), ("/run/systemd/nspawn", "tmpfs")):
        os.makedirs(target, exist_ok=True)
        mount(kind, target, kind, MS_NOSUID)
    os.mkdir(CGROUPS)
    mount("cgroup2", CGROUPS, "cgroup2")

    def stop(signum, _frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, once
    signal.signal(signal.SIGTERM, stop)
    try:
        return main() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
