"""Nothing of an engine outlives the gateway, the guard, or itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from openai_compat.gateway.engines import guard

FAKES = Path(__file__).parent / "fakes"
PATIENCE = 60.0
SLEEPER = "import time; time.sleep(300)"
# Starts a process that leaves its group and loses its parent, writes both pids down, and sleeps.
FATHER = f"""
import os, subprocess, sys, time
if os.fork() == 0:
    child = subprocess.Popen([sys.executable, "-c", "{SLEEPER}"], start_new_session=True)
    open(sys.argv[1], "w").write(f"{{os.getppid()}} {{child.pid}}")
    os._exit(0)
os.wait()
print("word", flush=True)
{SLEEPER}
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


class Guarded:
    """A guard without a gateway."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
        )
        self.say(json.dumps({"command": command, "environment": dict(os.environ)}))

    def say(self, line: str) -> None:
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def guarded() -> Iterator[Callable[..., Guarded]]:
    made: list[Guarded] = []

    def start(*command: str) -> Guarded:
        made.append(Guarded(*command))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def family(guarded, tmp_path) -> tuple[Guarded, list[int]]:
    """A guard over an engine with an orphan, and the pids of these two."""
    started = guarded(sys.executable, "-c", FATHER, str(tmp_path / "pids"))
    assert started.process.stdout.readline() == b"word\n"
    return started, [int(pid) for pid in (tmp_path / "pids").read_text().split()]


def test_the_end_of_the_life_line_ends_the_engine_and_its_orphans(family, gone) -> None:
    started, pids = family
    started.process.stdin.close()
    assert started.process.wait(PATIENCE) == 128 + signal.SIGKILL
    assert all(map(gone, pids))


def test_the_end_of_the_engine_ends_what_it_left_and_tells_its_status(family, gone) -> None:
    started, pids = family
    os.kill(pids[0], signal.SIGTERM)
    assert started.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert all(map(gone, pids))


def test_a_killed_guard_takes_the_engine_along(family, gone) -> None:
    started, pids = family
    started.process.kill()
    until(lambda: gone(pids[0]))
    os.kill(pids[1], signal.SIGKILL)  # nobody is left who knows of it


def test_signals_for_the_guard_are_not_its_end(family) -> None:
    started, pids = family
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        started.process.send_signal(number)
    started.say("stop")
    assert started.process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert not psutil.pid_exists(pids[0])


def test_the_engine_hears_the_signals_that_the_guard_does_not_heed(guarded) -> None:
    show = "import signal; print(*(signal.getsignal(n).name for n in (signal.SIGTERM, signal.SIGHUP)), flush=True)"
    started = guarded(sys.executable, "-c", show)
    assert started.process.stdout.readline() == b"SIG_DFL SIG_DFL\n"
    assert started.process.wait(PATIENCE) == 0


def test_without_such_a_program_the_status_says_so(guarded, capfd) -> None:
    assert guarded("no-such-program-anywhere").process.wait(PATIENCE) == guard.NOT_STARTED
    assert "could not be started" in capfd.readouterr().err


def test_a_gateway_that_is_gone_before_it_orders_starts_nothing() -> None:
    done = subprocess.run([sys.executable, "-I", "-S", guard.__file__], input=b"", timeout=PATIENCE, check=False)
    assert done.returncode == 0


def test_a_killed_gateway_leaves_no_process(tmp_path, gone) -> None:
    log = tmp_path / "engines.log"
    command = [sys.executable, "-P", str(FAKES / "gateway.py"), str(FAKES / "engine.py"), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout is not None
        assert gateway.stdout.readline() == b"ready\n"
        until(lambda: log.read_text().count("start") == 2)
        children = [child.pid for child in psutil.Process(gateway.pid).children(recursive=True)]
        gateway.kill()
    pids = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert len(pids) == 4
    assert set(pids) < set(children)
    until(lambda: all(map(gone, children)))
