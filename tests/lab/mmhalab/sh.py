"""Child processes, each with a bound, and the one way to wait for a condition.

Refuses to run anything without a timeout and to sleep without a condition.
"""

import subprocess
import time
from dataclasses import dataclass


class LabError(Exception):
    """What the person running the lab reads: what failed, on what, why."""


class Unsafe(LabError):
    """A promise was broken: a row lost, two holders, a write on the wrong side. Never forgiven."""


@dataclass(frozen=True)
class Result:
    argv: tuple
    rc: int
    out: str
    err: str

    @property
    def ok(self):
        return self.rc == 0

    def check(self):
        """Return self, or raise with everything the command said."""
        if self.rc != 0:
            shown = " ".join(str(a) for a in self.argv[-3:])
            raise LabError(f"command ended with {self.rc}: …{shown}\n{self.out[-4000:]}{self.err[-4000:]}".rstrip())
        return self


def run(argv, timeout=60, stdin=None, env=None):
    """Run argv to its end; a command that outlives its bound is killed and reported as rc 124."""
    argv = [str(a) for a in argv]
    feed = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout, env=env, **feed)
    except subprocess.TimeoutExpired as late:
        text = [(s or b"").decode(errors="replace") if isinstance(s, (bytes, type(None))) else s for s in (late.stdout, late.stderr)]
        return Result(tuple(argv), 124, text[0], f"{text[1]}\nkilled after {timeout} s")
    except FileNotFoundError as missing:
        return Result(tuple(argv), 127, "", str(missing))
    return Result(tuple(argv), done.returncode, done.stdout, done.stderr)


def sh(argv, timeout=60, stdin=None):
    """Run argv and insist on success; returns its standard output."""
    return run(argv, timeout, stdin).check().out


def ensure(condition, message):
    """An assertion with a sentence, and one that -O does not remove."""
    if not condition:
        raise LabError(message)


def promised(condition, message):
    """The same for what no fault may break."""
    if not condition:
        raise Unsafe(message)


def wait_for(condition, bound, what, every=0.03):
    """Poll condition() until it is truthy and return that value; after `bound` seconds say what was being waited for.

    An exception inside the condition counts as "not yet"; the last one is shown when the bound passes.
    """
    end = time.monotonic() + bound
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = None
        except (LabError, OSError, ValueError, KeyError, TypeError) as error:
            last = error
        if time.monotonic() >= end:
            seen = f" (last: {last})" if last else ""
            raise LabError(f"waited {bound:g} s in vain for: {what}{seen}")
        time.sleep(every)
