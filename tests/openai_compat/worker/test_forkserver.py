"""The fork server: what it tells, what a child inherits, and that it is worth having."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai_compat.protocol import Exited, Forked, ForkLine, Launch, Preloaded
from openai_compat.worker.forkserver import preload

PROGRAM = """
import json, os, signal, sys, threading, time
from openai_compat.worker.forkserver import ForkServer, preload

def run(launch):
    kind = launch.spec["kind"]
    if kind == "raise":
        raise ValueError("on purpose")
    if kind == "exit":
        sys.exit(5)
    if kind == "print":
        print("not a protocol line", flush=True)
        return
    if kind == "wait":
        while not os.path.exists(launch.socket):
            time.sleep(0.01)
        return
    told = {
        "fds": [os.readlink(path) for fd in os.listdir("/proc/self/fd") if os.path.exists(path := f"/proc/self/fd/{fd}")],
        "stdin": os.readlink("/proc/self/fd/0"),
        "sigchld": signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
        "leads_session": os.getsid(0) == os.getpid(),
        "path": sys.path,
    }
    open(launch.socket, "w").write(json.dumps(told))

ForkServer(run).serve(preload(sys.argv[1:]))
"""


class Server:
    def __init__(self, *command: str, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **options
        )
        self.preloaded = self.line()

    def line(self) -> ForkLine:
        return msgspec.json.decode(self.process.stdout.readline(), type=ForkLine)

    def fork(self, kind: str = "tell", socket: str = "", worker_id: str = "w") -> Forked:
        launch = Launch(worker_id=worker_id, token="t", spec={"id": "m", "kind": kind}, socket=socket, status_socket="")
        self.process.stdin.write(msgspec.json.encode(launch) + b"\n")
        return self.line()

    def close(self) -> int:
        self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


@pytest.fixture
def server():
    made = []

    def start(*modules: str, **options) -> Server:
        made.append(Server("-c", PROGRAM, *modules, **options))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.close()


def test_it_names_what_it_could_not_preload_and_serves_all_the_same(server):
    running = server("json", "no_such_module_anywhere")
    assert isinstance(running.preloaded, Preloaded)
    assert running.preloaded.threads == 1
    assert list(running.preloaded.missing) == ["no_such_module_anywhere"]
    assert isinstance(running.fork(), Forked)


def test_it_ends_when_its_input_does(server):
    assert server().close() == 0


def test_it_ends_without_a_word_when_nobody_reads_of_its_children_any_more(server, tmp_path):
    running = server(stderr=subprocess.PIPE)
    running.fork("wait", socket=str(tmp_path / "go"))
    running.process.stdout.close()
    (tmp_path / "go").touch()
    while Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text():
        assert running.process.poll() is None
        time.sleep(0.01)
    running.process.stdin.close()
    assert (running.process.wait(30), running.process.stderr.read()) == (0, b"")
    running.process.stderr.close()


def test_a_child_inherits_nothing_of_the_server(server, tmp_path):
    (tmp_path / "handlers").mkdir()
    running = server("json", cwd=tmp_path)
    path = tmp_path / "told"
    running.fork(socket=str(path))
    assert running.line() == Exited("w", 0)
    told = json.loads(path.read_text())
    assert [fd for fd in told["fds"] if "eventpoll" in fd] == []
    own = {os.readlink(f"/proc/{running.process.pid}/fd/{fd}") for fd in (0, 1)}
    assert not own & set(told["fds"])
    assert told["stdin"] == os.devnull
    assert told["sigchld"]
    assert told["leads_session"]
    assert str(tmp_path) not in told["path"]
    assert "" not in told["path"]


@pytest.mark.parametrize(("kind", "status"), [("raise", 1), ("exit", 5), ("print", 0)])
def test_the_end_of_a_child_is_reported_with_its_status(server, kind, status):
    running = server()
    assert running.fork(kind, worker_id="w7").worker_id == "w7"
    assert running.line() == Exited("w7", status)


def test_many_children_are_all_reported(server):
    running = server()
    lines = []
    for number in range(20):
        launch = Launch(worker_id=f"w{number}", token="t", spec={"kind": "print"}, socket="", status_socket="")
        running.process.stdin.write(msgspec.json.encode(launch) + b"\n")
    while len(lines) < 40:
        lines.append(running.line())
    assert {line.worker_id for line in lines if isinstance(line, Exited)} == {f"w{number}" for number in range(20)}


def test_a_module_that_initialises_cuda_is_refused(monkeypatch):
    class Cuda:
        @staticmethod
        def is_initialized():
            return True

    class Torch:
        cuda = Cuda

    monkeypatch.setitem(sys.modules, "torch", Torch)
    with pytest.raises(RuntimeError, match="CUDA"):
        preload(["json"])


REAL = """
from openai_compat.worker import forkserver

def run(launch):
    import sys
    heavy = ("torch", "transformers.modeling_utils", "transformers.models.llama.modeling_llama")
    open(launch.socket, "w").write(" ".join(str(name in sys.modules) for name in heavy))

forkserver.ForkServer(run).serve(forkserver.preload(forkserver.PRELOAD))
"""


@pytest.mark.slow
def test_forking_with_the_libraries_in_place_is_far_quicker_than_importing_them(tmp_path):
    began = time.monotonic()
    running = Server("-c", REAL)
    started = time.monotonic() - began
    assert running.preloaded.missing == {}
    assert running.preloaded.threads == 1
    began = time.monotonic()
    running.fork(socket=str(tmp_path / "told"))
    assert running.line() == Exited("w", 0)
    forked = time.monotonic() - began
    assert running.close() == 0
    assert (tmp_path / "told").read_text() == "True True True"
    print(f"preload {started:.2f} s, fork to end of child {forked:.3f} s, ratio {started / forked:.0f}")
    assert started / forked > 10
