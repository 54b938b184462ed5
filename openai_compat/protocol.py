"""What gateway and worker say to each other beside OpenAI HTTP: the gateway's headers, the launch order, the status lines.

Two channels. Requests travel as OpenAI HTTP over the worker's Unix socket, with the facts below as ``x-oc-*`` headers. Beside
it each worker connects once to the gateway's status socket, proves itself by its token, and writes one JSON line an event until
it ends; either side sees the other's death as the end of that connection. Of libraries this module imports msgspec only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import msgspec
from msgspec import Struct

PREFIX = "x-oc-"
SHUT = PREFIX + "shut"
"""With a worker's 429: seconds for which it would refuse everything, so that it need not be asked."""
ASCII = "latin-1"


class FetchRules(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That, and how, the URLs of a request's pictures and sounds are fetched: patterns of hosts (any where there are none),
    bytes of each file, seconds for all of a request.
    """

    max_bytes: int
    timeout: float
    hosts: tuple[str, ...] = ()


class RelayFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the gateway knows of a request and the worker trusts.

    ``deadline`` is seconds from now; ``public_model`` is the name that the answer echoes; without ``fetch`` no URL is followed.
    """

    request_id: str
    model: str
    public_model: str
    mode: str | None = None
    cache_salt: str = ""
    deadline: float = 600.0
    fetch: FetchRules | None = None

    def to_headers(self) -> dict[str, str]:
        """One header, percent-encoded, since a model's name may hold any letter."""
        return {PREFIX + "facts": quote(msgspec.json.encode(self), safe='{}":, ')}

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> RelayFacts:
        """Raises ``KeyError`` without the header and ``msgspec.ValidationError`` on a bad one."""
        return msgspec.json.decode(unquote_to_bytes(headers[PREFIX + "facts"]), type=cls)


def is_private(header: str) -> bool:
    """Whether a client's header must be dropped because only the gateway may say it."""
    return header.lower().startswith(PREFIX)


class Launch(Struct, frozen=True, kw_only=True):
    """The order to start one worker; ``spec`` is a ``handlers.types.ModelSpec`` as builtins.

    ``environment`` is set in the child before any heavy import.
    """

    worker_id: str
    token: str
    spec: dict[str, Any]
    socket: str
    status_socket: str
    environment: dict[str, str] = {}
    log_format: str = "text"
    log_level: str = "info"
    shutdown_grace: float = 30.0
    first_byte_timeout: float = 5.0
    ping_interval: float = 15.0
    heartbeat: float = 2.0
    max_wait: float = 60.0


# ---------------------------------------------------------------- status lines, worker to gateway


class Hello(Struct, frozen=True, tag="hello"):
    worker_id: str
    token: str
    pid: int


class Progress(Struct, frozen=True, tag="progress"):
    """``done`` and ``total`` are bytes; 0 means not known."""

    stage: str
    done: int = 0
    total: int = 0


class Memory(Struct, frozen=True, tag="memory"):
    """Bytes held: private host memory (PSS), and what is reserved on each device (``cuda:0`` …)."""

    host: int
    devices: dict[str, int] = {}


class Ready(Struct, frozen=True, tag="ready"):
    """Loaded and self-tested."""

    memory: Memory
    load_seconds: float
    capabilities: tuple[str, ...]


class Failed(Struct, frozen=True, tag="failed"):
    """Loading failed; ``message`` may be read by a client."""

    message: str
    kind: str = "ModelUnavailable"


class Retiring(Struct, frozen=True, tag="retiring"):
    """Memory ran out: the worker answers what it has, and should then be ended and replaced."""


class Begun(Struct, frozen=True, tag="begun"):
    """The model works on this request from now on. Where the worker dies before, another one may be given it."""

    request_id: str


class Done(Struct, frozen=True, tag="done", omit_defaults=True):
    """Nothing of this request runs in the worker any more. The counts are tokens: what it took, whatever became of it;
    ``cached`` are those of the prompt that were known already.
    """

    request_id: str
    prompt: int = 0
    completion: int = 0
    cached: int = 0


class Heartbeat(Struct, frozen=True, tag="heartbeat"):
    """Every few seconds: memory, the ids of the requests still running, and the seconds since the model last made a step."""

    memory: Memory
    active: tuple[str, ...] = ()
    stalled: float = 0.0


Status = Hello | Progress | Ready | Failed | Retiring | Begun | Done | Heartbeat
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Status] = msgspec.json.Decoder(Status)


def encode_status(message: Status) -> bytes:
    """One line, ending in a newline."""
    return _encoder.encode(message) + b"\n"


def decode_status(line: bytes) -> Status:
    """Raises ``msgspec.DecodeError`` on anything else."""
    return _decoder.decode(line)


# ---------------------------------------------------------------- lines of the fork server, to the gateway


class Preloaded(Struct, frozen=True, tag="preloaded"):
    """The fork server serves. ``missing`` names the modules that could not be imported, with the reason."""

    seconds: float
    threads: int
    missing: dict[str, str] = {}


class Forked(Struct, frozen=True, tag="forked"):
    worker_id: str
    pid: int


class Exited(Struct, frozen=True, tag="exited"):
    """``status`` is as ``os.waitstatus_to_exitcode`` has it: negative for a signal."""

    worker_id: str
    status: int


ForkLine = Preloaded | Forked | Exited


def public_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A client's headers without those that only the gateway may set."""
    return [(k, v) for k, v in headers if not is_private(k.decode(ASCII))]


def bind_private(path: str) -> socket.socket:
    """A Unix socket, bound and not yet listening, that only this user may open: its mode is set before anyone can connect."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.setblocking(False)
    return listener
