"""How a server ends: running requests finish, those that do not are told, and a second ctrl-c waits for nobody."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

PROGRAM = """
import asyncio
from litestar import Litestar, get
from openai_compat.http.server import listen, run, base_url

@get("/slow")
async def slow() -> str:
    print("working", flush=True)
    await asyncio.sleep(1)
    return "done"

listener = listen("127.0.0.1", 0)
run(Litestar([slow], logging_config=None), listener, grace=10, on_ready=lambda: print(base_url(listener), flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_running_request_finish_and_then_ends_the_process_well(number) -> None:
    with subprocess.Popen([sys.executable, "-P", "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline().split(":")[2].split("/")[0])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
                assert process.stdout.readline() == "working\n"
                os.kill(process.pid, number)
                assert connection.makefile("rb").read().endswith(b"done")
            assert process.stdout.readline() == "ended\n"
            assert process.wait(20) == 0
        finally:
            process.kill()


HURRIED = """
import asyncio
from litestar import Litestar, get
from litestar.response import Stream
from openai_compat.http.server import listen, run, base_url
from openai_compat.metrics import Metrics
from openai_compat.telemetry import Telemetry

@get("/endless")
async def endless() -> Stream:
    async def events():
        while True:
            yield b"data: 1\\n\\n"
            await asyncio.sleep(0.05)
    return Stream(events(), media_type="text/event-stream")

async def clean() -> None:
    print("cleaned", flush=True)

app = Litestar([endless], logging_config=None, on_shutdown=[clean])
listener = listen("127.0.0.1", 0)
run(Telemetry(app, metrics=Metrics()), listener, grace=GRACE, on_ready=lambda: print(base_url(listener), flush=True))
print("ended", flush=True)
"""


def wait_until_refused(port: int) -> None:
    """A server that has noticed its first signal listens no more; a second one sent before might become one with it."""
    with contextlib.suppress(ConnectionError):
        while True:
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
            time.sleep(0.02)


@pytest.mark.parametrize(("grace", "signals"), [(1, [signal.SIGTERM]), (600, [signal.SIGINT, signal.SIGINT])])
def test_a_stream_over_the_grace_or_in_the_way_of_a_second_ctrl_c_gets_an_error_event(grace, signals) -> None:
    program = HURRIED.replace("GRACE", str(grace))
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = int(process.stdout.readline().split(":")[2].split("/")[0])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as reader:
                connection.sendall(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n")
                while reader.readline() != b"data: 1\n":
                    pass
                for number in signals:
                    os.kill(process.pid, number)
                    wait_until_refused(port)
                rest = reader.read()
            assert b'"code": "shutting_down"' in rest
            assert rest.endswith(b"0\r\n\r\n")
            assert process.stdout.read() == "cleaned\nended\n"
            assert process.wait(20) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


LINGERING = """
import asyncio
from litestar import Litestar
from openai_compat.http.lingering import linger
from openai_compat.http.server import listen, run, base_url

async def wait() -> None:
    print("waiting", flush=True)
    work = asyncio.create_task(asyncio.sleep(600))
    await linger([work], SECONDS)
    work.cancel()

listener = listen("127.0.0.1", 0)
app = Litestar([], logging_config=None, on_shutdown=[wait])
run(app, listener, grace=1, on_ready=lambda: print("ready", flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize(("seconds", "signals"), [(0.2, 1), (600, 2)])
def test_work_that_outlives_its_requests_has_its_time_unless_somebody_is_in_a_hurry(seconds: float, signals: int) -> None:
    program = LINGERING.replace("SECONDS", str(seconds))
    with subprocess.Popen([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in ("ready", "waiting")[:signals]:
                assert process.stdout.readline() == f"{line}\n"
                os.kill(process.pid, signal.SIGINT)
            assert process.stdout.read().endswith("ended\n")
            assert process.wait(20) == 0
        finally:
            process.kill()
