"""Reading the configuration again while the server runs: all of it is taken over, or nothing.

``Reload`` is asked by SIGHUP and by operators. It reads as the start did, refuses what would have refused the start and what
cannot change in a process that runs, makes the new edition beside the old one, and then changes from one to the other between
two steps of the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from openai_compat.config import Config, ConfigError
from openai_compat.errors import InvalidRequest, ShuttingDown
from schemas.reload import Reloaded

logger = logging.getLogger(__name__)

# Every setting is in exactly one of these: a whole section, or one of its fields.
FIXED = frozenset(
    {
        "admin", "jobs", "responses.background_at_once", "server.cache_dir", "server.drain_delay", "server.host",
        "server.inline", "server.log_format", "server.max_connections", "server.port", "server.shutdown_grace",
        "server.tls_cert", "server.tls_key", "storage", "workers",
    }
)  # fmt: skip
"""What a process keeps from its start to its end. The files that ``server.tls_cert`` and ``tls_key`` name are read again."""
RENEWABLE = frozenset(
    {
        "aliases", "auth", "cache", "media", "memory", "metering", "models", "responses.background_waiting",
        "responses.expiry", "responses.max_per_key", "responses.quota_per_key", "responses.store", "routes",
        "server.cors_origins", "server.first_byte_timeout", "server.log_level", "server.max_body", "server.max_in_flight",
        "server.ping_interval", "server.public_url", "server.request_timeout", "server.spool_quota",
        "server.trusted_proxies", "upstreams",
    }
)  # fmt: skip

Read = Callable[[], Config]
Commit = Callable[[], None]
Prepare = Callable[[Config], Commit]
"""Makes something ready for a configuration, in a thread, and returns what puts it in force. Raises ``ConfigError``."""
Renew = Callable[[Config, tuple[Commit, ...]], Awaitable[None]]


class Reload:
    """One at a time. Whoever asks while another waits for its turn shares it.

    Args:
        read: reads the configuration as the start did; None where there is nothing to read.
        current: the configuration in force.
        renew: puts another one in force, and calls the commits as it does. Raises ``ConfigError``, and has then done nothing.
    """

    def __init__(self, read: Read | None, current: Callable[[], Config], renew: Renew) -> None:
        self._read = read
        self._current = current
        self._renew = renew
        self._steps: list[Prepare] = []
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Task[tuple[str, ...]] | None = None
        self._tasks: set[asyncio.Task[tuple[str, ...]]] = set()
        self._closed = False

    def also(self, step: Prepare) -> None:
        """Let ``step`` take part."""
        self._steps.append(step)

    async def now(self) -> tuple[str, ...]:
        """The settings that have changed. Raises ``ConfigError`` and ``ShuttingDown``: then the old configuration is in force.

        Goes on where whoever asked does not wait for it.
        """
        return await asyncio.shield(self._begun())

    def hangup(self) -> None:
        """For a signal: what comes of it is told to the log."""
        self._begun()

    def refuse(self) -> None:
        """The server ends: what has not begun does not begin."""
        self._closed = True

    async def close(self) -> None:
        self._closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begun(self) -> asyncio.Task[tuple[str, ...]]:
        if self._waiting is None:
            task = self._waiting = asyncio.get_running_loop().create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return self._waiting

    def _ended(self, task: asyncio.Task[tuple[str, ...]]) -> None:
        """Its failure is told here, since after a signal nobody waits for it."""
        self._tasks.discard(task)
        if task.cancelled():
            return
        match task.exception():
            case None:
                logger.info("the configuration was read again; changed: %s", ", ".join(task.result()) or "nothing")
            case ConfigError() | ShuttingDown() as refusal:
                logger.error("the configuration was not changed: %s", refusal)
            case error:
                logger.error("the configuration was not changed", exc_info=error)

    async def _run(self) -> tuple[str, ...]:
        async with self._turn:
            self._waiting = None  # whoever asks from now on wants what is read later
            if self._closed:
                raise ShuttingDown("The server is shutting down.")
            config, commits = await asyncio.to_thread(self._prepared)
            changed = tuple(changes(self._current(), config))
            await self._renew(config, commits)
            return changed

    def _prepared(self) -> tuple[Config, tuple[Commit, ...]]:
        if self._read is None:
            raise ConfigError("this server was not started from a configuration that can be read again")
        config = self._read()
        check_fixed(self._current(), config)
        return config, tuple(step(config) for step in self._steps)


class GatewayReloading:
    """``routes.reload.Reloading``."""

    def __init__(self, reload: Reload) -> None:
        self._reload = reload

    async def reload(self) -> Reloaded:
        try:
            return Reloaded(changed=await self._reload.now())
        except ConfigError as error:
            raise InvalidRequest(str(error), code="configuration_refused") from error


def check_fixed(old: Config, new: Config) -> None:
    """Raises ``ConfigError`` that names each setting which cannot change while the server runs, and has."""
    changed = [name for name in sorted(FIXED) if _value(old, name) != _value(new, name)]
    if changed:
        names = [field for name in changed for field in _fields(old, new, name)]
        verb = "takes" if len(names) == 1 else "take"
        raise ConfigError(f"{', '.join(names)} {verb} a restart to change")


def changes(old: Config, new: Config) -> Iterator[str]:
    """The settings that differ, by name: of models, upstreams and other tables each entry. Values may be secrets."""
    for name in sorted(RENEWABLE):
        if _value(old, name) != _value(new, name):
            yield from _fields(old, new, name)


def _value(config: Config, name: str) -> object:
    section, _, field = name.partition(".")
    found = getattr(config, section)
    return getattr(found, field) if field else found


def _fields(old: Config, new: Config, name: str) -> Iterator[str]:
    """What exactly of a section, or of a table, has changed."""
    before, after = _value(old, name), _value(new, name)
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            if before.get(key) != after.get(key):
                yield f"{name}.{key}"
    elif "." in name:
        yield name
    else:
        fields = type(before).__struct_fields__  # type: ignore[attr-defined]
        yield from (f"{name}.{field}" for field in fields if getattr(before, field) != getattr(after, field))
