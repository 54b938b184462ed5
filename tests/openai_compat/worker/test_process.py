import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from openai_compat.errors import APIError
from openai_compat.protocol import (
    Done,
    Failed,
    Heartbeat,
    Hello,
    Launch,
    Progress,
    Ready,
    RelayFacts,
    decode_status,
)
from openai_compat.worker import process
from openai_compat.worker.status import ORPHANED

PLAIN = [sys.executable, "-P", str(Path(__file__).with_name("plain_worker.py"))]
REAL = [sys.executable, "-P", "-m", "openai_compat.worker"]


class Gateway:
    """The other end of a worker: its status socket, its standard input, its HTTP socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard: list = []
        self.writer: asyncio.StreamWriter | None = None
        self.hung_up = asyncio.Event()
        self.child: asyncio.subprocess.Process | None = None
        self.wires: list[asyncio.StreamWriter] = []

    def launch(self, **changes) -> Launch:
        order = {
            "worker_id": "w1",
            "token": "secret",
            "spec": {"id": "echo-1", "path": "", "kind": "echo"},
            "socket": str(self.folder / "w.sock"),
            "status_socket": str(self.folder / "s.sock"),
            "heartbeat": 0.1,
            "shutdown_grace": 10.0,
        }
        return Launch(**(order | changes))

    async def listen(self) -> None:
        self.server = await asyncio.start_unix_server(self._hear, str(self.folder / "s.sock"))

    async def _hear(self, reader, writer) -> None:
        self.writer = writer
        while line := await reader.readline():
            self.heard.append(decode_status(line))
        writer.close()
        self.hung_up.set()

    async def start(self, launch: Launch, command=PLAIN) -> None:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        self.child = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, cwd=self.folder, env=env)
        self.child.stdin.write(msgspec.json.encode(launch))
        await self.child.stdin.drain()
        self.child.stdin.close()

    async def hears(self, kind, where=lambda message: True):
        while True:
            for message in self.heard:
                if isinstance(message, kind) and where(message):
                    return message
            await asyncio.sleep(0.01)

    def dones(self, request_id: str) -> int:
        return sum(isinstance(message, Done) and message.request_id == request_id for message in self.heard)

    async def ask(self, path: str, text: str, request_id: str = "r1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "w.sock"))
        self.wires.append(writer)
        facts = RelayFacts(request_id=request_id, model="echo-1", public_model="echo").to_headers()
        lines = [f"POST {path} HTTP/1.1", "host: worker", "connection: close", f"content-length: {len(text)}"]
        lines += [f"{name}: {value}" for name, value in facts.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + text.encode())
        return reader, writer

    async def close(self) -> None:
        for writer in (*self.wires, *([self.writer] if self.writer else [])):
            writer.close()
        self.server.close()
        if self.child and self.child.returncode is None:
            self.child.kill()
        if self.child:
            await self.child.wait()


@pytest.fixture
def gateway():
    @asynccontextmanager
    async def gateway():
        with tempfile.TemporaryDirectory(prefix="oc-") as folder:
            gateway = Gateway(Path(folder))
            await gateway.listen()
            try:
                yield gateway
            finally:
                await gateway.close()

    return gateway


def test_a_worker_proves_itself_reports_and_serves(gateway, in_time):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch())
            ready = await g.hears(Ready)
            assert g.heard[0] == Hello("w1", "secret", g.child.pid)
            assert {"script", "self-test"} <= {m.stage for m in g.heard if isinstance(m, Progress)}
            assert "generate_text" in ready.capabilities
            assert ready.memory.host > 2**20
            assert ready.load_seconds > 0
            assert stat.S_IMODE((g.folder / "w.sock").stat().st_mode) == 0o600
            reader, _ = await g.ask("/whole", "hello there")
            assert json.loads((await reader.read()).split(b"\r\n\r\n")[1]) == {"model": "echo-1", "text": "hello there"}
            await g.hears(Done)
            assert [(m.request_id, m.prompt, m.completion) for m in g.heard if isinstance(m, Done)] == [("r1", 2, 2)]

    in_time(scenario(), 60)


def test_heartbeats_name_what_runs_and_done_comes_when_it_has_ended(gateway, in_time):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch())
            await g.hears(Ready)
            reader, writer = await g.ask("/stream", "[[delay=0.05]] [[tokens=10000]] go")
            await reader.readuntil(b"data: ")
            beat = await g.hears(Heartbeat, lambda beat: beat.active)
            assert beat.active == ("r1",)
            assert beat.memory.host > 2**20
            assert g.dones("r1") == 0
            writer.transport.abort()
            await g.hears(Done)
            g.heard.clear()
            await g.hears(Heartbeat, lambda beat: beat.active == ())
            assert g.dones("r1") == 0

    in_time(scenario(), 60)


def test_each_request_is_done_exactly_once_also_when_refused_or_failed(gateway, in_time):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch())
            await g.hears(Ready)
            texts = ["fine", "[[fail_after=1]] a b c", "[[delay=nonsense]] a"]
            for path in ("/whole", "/stream"):
                for number, text in enumerate(texts):
                    reader, _ = await g.ask(path, text, f"{path}{number}")
                    await reader.read()
            await g.hears(Heartbeat, lambda beat: len([m for m in g.heard if isinstance(m, Done)]) >= 6)
            done = [m.request_id for m in g.heard if isinstance(m, Done)]
            assert sorted(done) == sorted(f"{path}{number}" for path in ("/whole", "/stream") for number in range(3))

    in_time(scenario(), 60)


def test_a_worker_ends_when_the_gateway_is_gone_although_its_model_is_busy(gateway, in_time):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch())
            await g.hears(Ready)
            reader, _ = await g.ask("/stream", "[[delay=0.05]] [[tokens=10000]] go")
            await reader.readuntil(b"data: ")
            g.writer.transport.abort()
            assert await g.child.wait() == ORPHANED

    in_time(scenario(), 60)


def test_a_worker_that_finds_no_gateway_ends_without_a_word(tmp_path):
    order = Launch(worker_id="w", token="t", spec={}, socket="", status_socket=str(tmp_path / "gone"))
    ended = subprocess.run(REAL, input=msgspec.json.encode(order), capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (ORPHANED, b"")


def test_sigterm_lets_a_running_answer_end_and_refuses_new_ones(gateway, in_time):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch())
            await g.hears(Ready)
            reader, _ = await g.ask("/stream", "[[delay=0.02]] [[tokens=50]] go")
            await reader.readuntil(b"data: ")
            g.child.send_signal(signal.SIGTERM)
            assert await g.child.wait() == 0
            assert (await reader.read()).rstrip().endswith(b"data: [DONE]\n\n\r\n0")
            assert g.dones("r1") == 1

    in_time(scenario(), 60)


def test_an_answer_that_outlasts_the_grace_ends_with_an_error_event(gateway, in_time):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch(shutdown_grace=0.1))
            await g.hears(Ready)
            reader, _ = await g.ask("/stream", "[[delay=0.05]] [[tokens=10000]] go")
            await reader.readuntil(b"data: ")
            g.child.send_signal(signal.SIGTERM)
            assert await g.child.wait() == 0
            text = await reader.read()
            assert b'"code": "shutting_down"' in text
            assert b"[DONE]" not in text
            assert g.dones("r1") == 1

    in_time(scenario(), 60)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"id": "m", "path": "", "kind": "no-such-kind"}, "no handler of kind"),
        ({"id": "m", "path": "", "kind": "echo", "options": {"delay": "soon"}}, "script"),
        ({"id": "m", "kind": "echo"}, "could not be loaded"),
        ({"id": "m", "path": "", "kind": "echo", "options": {"fail_after": 0}}, "self-test"),
    ],
    ids=["unknown kind", "bad options", "no path", "self-test"],
)
def test_a_worker_that_cannot_load_says_why_and_ends(gateway, in_time, spec, message):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch(spec=spec))
            failed = await g.hears(Failed)
            assert message in failed.message
            assert failed.kind == "ModelUnavailable"
            assert await g.child.wait() == 1
            assert not (g.folder / "w.sock").exists()

    in_time(scenario(), 60)


def test_the_spawned_module_reads_its_order_from_standard_input(gateway, in_time):
    async def scenario():
        async with gateway() as g:
            await g.start(g.launch(spec={"id": "m", "path": "", "kind": "no-such-kind"}), REAL)
            await g.hears(Hello)
            await g.hears(Failed)
            assert await g.child.wait() == 1

    in_time(scenario(), 60)


def test_nonsense_on_standard_input_is_told_in_one_line():
    ended = subprocess.run(REAL, input=b"{}", capture_output=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.decode().startswith("standard input holds no launch order")
    assert ended.stderr.count(b"\n") == 1


def test_the_environment_keeps_libraries_off_the_net_and_the_launch_has_the_last_word(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "before")
    monkeypatch.delenv("PYTORCH_ALLOC_CONF")
    launch = Launch(worker_id="w", token="t", spec={}, socket="", status_socket="", environment={"OC_TEST": "1"})
    monkeypatch.setenv("OC_TEST", "0")
    process.set_environment(launch)
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["TRANSFORMERS_OFFLINE"] == "1"
    assert os.environ["PYTORCH_ALLOC_CONF"] == os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "before"
    assert os.environ["OC_TEST"] == "1"


def test_a_failed_load_tells_a_client_nothing_of_a_foreign_exception():
    assert process.failure(ValueError("/home/secret")).message == "The model could not be loaded."
    assert process.failure(MemoryError()) == Failed("There is not enough memory to load the model.", kind="InsufficientMemory")
    assert process.failure(APIError("as it is")) == Failed("as it is", kind="APIError")
