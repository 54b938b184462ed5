"""Requests by the curl of the system: what goes over the wire, with nothing between."""

from __future__ import annotations

import json
import subprocess
from email.message import Message as Headers
from email.parser import BytesParser
from typing import Any

from kit.server import SECONDS, Server


class Answer:
    """Status, headers and body as they came."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[tuple[str, str]]:
        """The name and the data of each event of a stream."""
        found = []
        for block in self.text.replace("\r\n", "\n").split("\n\n"):
            lines = [line.partition(":")[::2] for line in block.split("\n")]
            data = "\n".join(value.removeprefix(" ") for field, value in lines if field == "data")
            event = "".join(value.strip() for field, value in lines if field == "event")
            if data:
                found.append((event, data))
        return found

    def chunks(self) -> list[dict[str, Any]]:
        """The data of each event but the last word, as JSON."""
        return [json.loads(data) for _, data in self.events() if data != "[DONE]"]


class Curl:
    def __init__(self, server: Server) -> None:
        self._server = server

    def get(self, path: str, *words: str) -> Answer:
        return self.run(path, *words)

    def post(self, path: str, body: Any, *words: str, seconds: float = SECONDS) -> Answer:
        """Bytes are sent as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.run(path, "-H", "content-type: application/json", "--data-binary", "@-", *words, data=data, seconds=seconds)

    def run(self, path: str, *words: str, data: bytes | None = None, key: bool = True, seconds: float = SECONDS) -> Answer:
        """``path`` is below the base URL; one that begins with the origin is taken as it is."""
        url = path if path.startswith("http") else self._server.base_url + path
        signed = ("-H", f"authorization: Bearer {self._server.api_key}") if key else ()
        done = subprocess.run(
            ["curl", "-sS", "-N", "-i", "--http1.1", "--max-time", str(seconds), *signed, *words, url],
            input=data,
            capture_output=True,
            timeout=seconds + 5,
        )
        if done.returncode:
            raise AssertionError(f"curl: {done.stderr.decode().strip()}")
        return read(done.stdout)


def read(output: bytes) -> Answer:
    """Interim answers (100 Continue) are passed over."""
    head, _, body = output.partition(b"\r\n\r\n")
    first, _, lines = head.partition(b"\r\n")
    status = int(first.split()[1])
    return read(body) if status < 200 else Answer(status, BytesParser().parsebytes(lines + b"\r\n\r\n", headersonly=True), body)
