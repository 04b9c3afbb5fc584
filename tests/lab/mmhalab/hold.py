"""One thread of a process stands still while the others go on: the moment between two threads' looks at the world, as long as a case wants.

By ptrace(2), so the thread goes on by itself when the lab ends. Refuses to guess which thread is meant.
"""

import contextlib
import ctypes
import os

from . import sandbox
from .sh import LabError

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # threads too, waitpid(2)


def ptrace(request, thread):
    sandbox.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    sandbox.check(sandbox.libc.ptrace(request, thread, None, None), f"ptrace of thread {thread}")


def thread_called(pid, name):
    found = [int(task) for task in os.listdir(f"/proc/{pid}/task") if open(f"/proc/{pid}/task/{task}/comm").read().strip() == name]
    if len(found) != 1:
        raise LabError(f"process {pid} has {len(found)} threads called '{name}'")
    return found[0]


@contextlib.contextmanager
def held(pid, name):
    """The thread called `name` stands still inside of the with. To be used by one thread of the lab."""
    thread = thread_called(pid, name)
    ptrace(PTRACE_SEIZE, thread)
    ptrace(PTRACE_INTERRUPT, thread)
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            ptrace(PTRACE_DETACH, thread)
