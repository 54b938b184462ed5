"""All keys that open this server, at this moment: those of the configuration, and those in its file."""

from __future__ import annotations

import asyncio
import hmac
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from openai_compat.auth import is_loopback
from openai_compat.config import Config, ConfigError
from openai_compat.errors import Unavailable
from openai_compat.gateway.tasks import Tasks
from openai_compat.grants import ANYBODY, Grant
from openai_compat.keys import table
from openai_compat.keys.audit import OTHERS, audit
from openai_compat.keys.file import LOST, NO_PLACE, KeyFile, key_path
from openai_compat.keys.keeper import KeyKeeper
from openai_compat.keys.record import StoredKey
from openai_compat.keys.secret import ID_BYTES, id_of

_logger = logging.getLogger(__name__)
_INTERVAL = 0.5  # seconds between two looks for what other processes have changed
_WRITING = 60.0  # seconds between two writings of when keys were last used
_FOREVER = float("inf")
Clock = Callable[[], float]


class _Key:
    """A key as ``find`` needs it."""

    __slots__ = ("digest", "expires", "grant", "used")

    def __init__(self, digest: bytes, grant: Grant) -> None:
        self.digest = digest
        self.grant = grant
        self.expires = _FOREVER if grant.expires is None else grant.expires
        self.used = 0


class Ring:
    """``grants.Grants``. Lives on the event loop; only what reads the file leaves it.

    Once there was a key, or where other machines can reach the server, it stays closed without one: ``exist`` never turns
    false.
    """

    def __init__(self, config: Config, *, clock: Clock = time.time, interval: float = _INTERVAL) -> None:
        self.exist = not is_loopback(config.server.host)
        self._clock = clock
        self._interval = interval
        self._file = _file_of(config)
        self._configured: dict[bytes, _Key] = {}
        self._kept: dict[bytes, _Key] = {}
        self._known: dict[bytes, _Key] = {}
        self._used: dict[str, int] = {}
        self._written = 0.0
        self._complaint = ""
        self._started = False
        self._refreshing = asyncio.Lock()
        self._tasks = Tasks()
        self.configure(config.auth.keys)

    def configure(self, hashes: Iterable[str]) -> None:
        """Take over the keys of a new configuration (``sha256:<hex>``)."""
        digests = [bytes.fromhex(text.removeprefix("sha256:")) for text in hashes]
        keys = [_Key(digest, replace(ANYBODY, key_id=id_of(digest))) for digest in digests]
        self._configured = {key.digest[:ID_BYTES]: key for key in keys}
        self._join()

    def find(self, digest: bytes) -> Grant | None:
        """By the hash's beginning, which is no secret; whether it is the key itself takes the same time, right or wrong."""
        key = self._known.get(digest[:ID_BYTES])
        if key is None or not hmac.compare_digest(key.digest, digest):
            return None
        now = self._clock()
        if key.expires <= now:
            return None
        key.used = int(now)
        return key.grant

    def still(self, grant: Grant) -> Grant | None:
        """What the holder of ``grant`` may do by now, for work that waited; None where the key has ended meanwhile."""
        if not grant.key_id:
            return None if self.exist else grant
        key = self._known.get(bytes.fromhex(grant.key_id))
        return key.grant if key is not None and key.expires > self._clock() else None

    def keeper(self) -> KeyKeeper:
        """To change keys with; ``refresh`` puts the change in force. Raises ``ConfigError`` where none can be kept."""
        if self._file is None:
            raise ConfigError(NO_PLACE)
        return KeyKeeper(self._file, clock=self._clock)

    async def start(self) -> None:
        """Read the keys that there are, and follow what becomes of them.

        Raises ``ConfigError`` where they cannot be read: a server without its keys would be open, or useless.
        """
        try:
            await self.refresh()
        except (ConfigError, sqlite3.Error) as error:
            await self._close_file()
            raise ConfigError(f"{error}{LOST}") from error
        self._started = True
        self._tasks.spawn(self._follow())

    async def close(self) -> None:
        await self._tasks.cancel()
        await self._write_used()
        await self._close_file()

    async def refresh(self, *, known: str | None = None) -> None:
        """Take over what has changed. ``known`` is the id of a key that this process has changed itself.

        Raises ``ConfigError`` and ``sqlite3.Error``.
        """
        if self._file is None:
            return
        async with self._refreshing:  # so that what was read first is taken over first
            news = await self._file.news(ours=known is not None)
            if news is None:
                return
            for key in news.keys:
                if key.id != known and self._started and (what := self._what(key)):
                    audit(what, key.id, OTHERS)
            if news.whole:
                self._kept.clear()
            for key in news.keys:
                self._take(key)
            self._join()

    def adopt(self, key: StoredKey) -> None:
        """Take over one key as it was just written, where the file cannot be read again."""
        self._take(key)
        self._join()

    def _what(self, key: StoredKey) -> str:
        """What has become of it; empty where nothing has."""
        before = self._kept.get(key.digest[:ID_BYTES])
        if key.revoked is not None:
            return "revoked" if before else ""
        return ("updated" if before.grant != key.grant else "") if before else "created"

    def _take(self, key: StoredKey) -> None:
        self.exist = True  # also by one that opens nothing any more: whoever had a key wants no open server
        place = key.digest[:ID_BYTES]
        if key.revoked is not None:
            self._kept.pop(place, None)
        else:
            self._kept[place] = _Key(key.digest, key.grant)

    def _join(self) -> None:
        """What the configuration says goes before what the file says."""
        self._collect_used()
        self._known = {**self._kept, **self._configured}
        self.exist = self.exist or bool(self._known)

    # ------------------------------------------------------------ what other processes do

    async def _follow(self) -> None:
        self._written = time.monotonic()
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.refresh()
                self._complaint = ""
            except (ConfigError, sqlite3.Error) as error:
                self.exist = True  # there may be keys by now, and nobody can tell which
                self._complain(f"changes of API keys cannot be read: {error}")
            if time.monotonic() - self._written > _WRITING:
                await self._write_used()

    async def _write_used(self) -> None:
        """Best effort: it is for people who look for keys that nobody uses."""
        self._written = time.monotonic()
        self._collect_used()
        used, self._used = self._used, {}
        if not used or self._file is None:
            return
        try:
            await self._file.run(lambda connection: table.touch(connection, used))
        except (ConfigError, Unavailable, sqlite3.Error) as error:
            self._complain(f"when API keys were last used could not be written: {error}")

    def _collect_used(self) -> None:
        for key in self._kept.values():
            if key.used:
                self._used[key.grant.key_id] = key.used
                key.used = 0

    def _complain(self, text: str) -> None:
        """Once for each reason."""
        if text != self._complaint:
            self._complaint = text
            _logger.error("%s", text)

    async def _close_file(self) -> None:
        if self._file is not None:
            await self._file.close()


def _file_of(config: Config) -> KeyFile | None:
    """None where this server keeps nothing that lasts."""
    try:
        return KeyFile(key_path(config))
    except ConfigError:
        return None
