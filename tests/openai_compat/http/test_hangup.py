"""SIGHUP to a real process: a wish while there is work, an end where the terminal is gone, and nothing it dies of."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = """
import time
from litestar import Litestar
from openai_compat.http.hangup import Hangup
from openai_compat.http.server import Door, Handles, listen, run_doors

hangup = Hangup()
with hangup.heeded():
    print("starting", flush=True)
    END = time.monotonic() + PAUSE
    while time.monotonic() < END:
        time.sleep(0.01)
    handles = Handles(ready=lambda: print("ready", flush=True), hangup=lambda: print("again", flush=True))
    run_doors([Door(app=Litestar([], logging_config=None), listener=listen("127.0.0.1", 0))], handles, hangup, grace=1)
print("ended", flush=True)
"""


@contextmanager
def running(pause: float = 0.0, **how: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-c", PROGRAM.replace("PAUSE", str(pause))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "starting\n"
            yield process
        finally:
            process.kill()


def test_it_asks_for_the_configuration_each_time_and_ends_nothing() -> None:
    with running(start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            os.kill(process.pid, signal.SIGHUP)
            assert process.stdout.readline() == "again\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "ended\n"
        assert process.wait(20) == 0


def test_one_that_comes_while_the_server_starts_is_kept_until_it_serves() -> None:
    with running(pause=0.5, start_new_session=True) as process:
        os.kill(process.pid, signal.SIGHUP)
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "again\n"]
        os.kill(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "ended\n"


def test_a_server_whose_terminal_is_gone_ends_well() -> None:
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(theirs), os.O_RDWR))  # the first that a leader opens is its own

    with running(preexec_fn=own_terminal) as process:
        os.close(theirs)
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGHUP)
        assert process.stdout.readline() == "again\n"
        os.close(ours)  # which sends the signal
        assert process.stdout.readline() == "ended\n"
        assert process.wait(20) == 0
