"""The folder of one server, held by a lock as long as the server lives.

A configured folder is that server's alone: a second one refuses to start. The usual folder goes by the port, so that a server
finds its own again; where it is taken, or the port is any that is free, the server gets a new folder that ends with it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from openai_compat.config import Config, ConfigError
from openai_compat.gateway.sources import cache_root

DATABASE = "state.sqlite3"
_PASSING = "passing-"


class Place:
    """A private folder with a held lock; one that is ``passing`` goes when it is closed."""

    def __init__(self, path: Path, *, passing: bool = False) -> None:
        """Raises ``BlockingIOError`` where another server has it."""
        self.path = path
        self._passing = passing
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(path, 0o700)
        self._lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        if self._passing:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def folder_of(config: Config) -> Path | None:
    """The folder that outlives this server, there or not; None where it has no port of its own.

    Raises ``ConfigError`` where there is no home to have one in.
    """
    if config.storage.dir:
        return Path(config.storage.dir).expanduser().absolute()
    return _base(config) / f"port-{config.server.port}" if config.server.port else None


def take(config: Config) -> Place:
    """Raises ``ConfigError`` where it cannot be had."""
    folder = folder_of(config)
    try:
        if folder is not None:
            return Place(folder)
    except BlockingIOError:
        if config.storage.dir:
            raise ConfigError(f"another server keeps its results in {folder}: give each its own storage.dir") from None
    except OSError as error:
        raise ConfigError(f"storage.dir: {folder} cannot be used: {error.strerror}") from error
    return _passing(_base(config))


def _base(config: Config) -> Path:
    return cache_root(config.server.cache_dir) / "storage"


def _passing(base: Path) -> Place:
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_left_behind(base)
        return Place(Path(tempfile.mkdtemp(prefix=_PASSING, dir=base)), passing=True)
    except OSError as error:
        raise ConfigError(f"storage.dir: nothing can be kept in {base}: {error.strerror}") from error


def _remove_left_behind(base: Path) -> None:
    """Folders of servers that were killed: nobody holds their locks."""
    for path in base.glob(_PASSING + "*"):
        if (path / "lock").is_file():
            try:
                Place(path, passing=True).close()
            except OSError:
                continue
