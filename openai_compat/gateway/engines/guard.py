"""Stands between the gateway and one engine, so that nothing of the engine outlives either.

Its standard input is the life line: first the order, a line of JSON with ``command`` and ``environment``; later a line that
says ``stop``, which the engine gets as SIGTERM. When the input ends, because the gateway wants it so or is dead, the engine and
all that it started are killed. The engine's end ends the rest of its processes too, and then the guard, with its exit status.

The file is run by its path and imports of the standard library only what is small, so it takes some 50 ms and 12 MB.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

NOT_STARTED = 127  # exit status where there is no such program, as of a shell
_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_ORDER = 1 << 20
_PAUSE = 0.01  # seconds between two looks at processes that were killed and are not gone yet


def main() -> int:
    # Unbuffered, so that what comes after the order is left for ``select`` to see.
    order = json.loads(open(0, "rb", buffering=0, closefd=False).readline(_LONGEST_ORDER) or b"null")  # noqa: SIM115
    if order is None:
        return 0
    ended, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _heed)  # a handler, since what is ignored would be ignored by the engine as well
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        engine = subprocess.Popen(  # noqa: S603
            order["command"],
            env=order["environment"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_guard,  # safe, since there is one thread
        )
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the program could not be started: {error}\n")
        return NOT_STARTED
    status = _watch(engine.pid, ended)
    _end_all(engine.pid)
    return status if status >= 0 else 128 - status


def _heed(*_: object) -> None:
    """What must be done is done where the signal's pipe is read."""


def _watch(pid: int, ended: int) -> int:
    """The engine's exit status, once it has ended; -SIGKILL where the life line did."""
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            if (status := _reap(pid)) is not None:
                return status
        if 0 in ready:
            said = os.read(0, 4096)
            if not said:
                return -signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _reap(pid: int) -> int | None:
    """Take note of every child that has ended; the status of ``pid`` if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                break
            if child == pid:
                found = os.waitstatus_to_exitcode(status)
    return found


def _end_all(pid: int) -> None:
    """Kill the engine's group and whoever left it, until none is left."""
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        for other in _descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(other, signal.SIGKILL)
        _reap(pid)
        if not _has_children():
            return
        time.sleep(_PAUSE)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _descendants() -> Iterator[int]:
    """Orphans of this tree are children of the guard, so the tree is whole."""
    parents = dict(_parents()) if _LINUX else {}
    own = os.getpid()
    for pid in parents:
        above: int | None = pid
        while above is not None and above != own:
            above = parents.get(above)
        if above == own and pid != own:
            yield pid


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
                yield int(name), int(file.read().rpartition(b")")[2].split()[1])


def _die_with_guard() -> None:
    """In the engine, before its program begins: whoever kills the guard kills it."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
