"""The private folder that holds the sockets of one gateway.

Its name is short, since a Unix socket's path must stay under about 100 bytes. A lock in it is held while its gateway lives, so
the folder of a killed gateway is recognised and removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

PREFIX = "oc-"
_LONGEST = 60
_YOUNG = 10.0  # seconds in which a folder without a held lock may still be one being made


class RunDirectory:
    """A folder of mode 0700 with a held lock; ``close`` removes it."""

    def __init__(self, base: Path | None = None) -> None:
        base = base or _base()
        remove_stale(base)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def socket(self, name: str) -> str:
        """Where the socket called ``name`` lies."""
        return str(self.path / f"{name}.sock")

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_stale(base: Path) -> None:
    """Remove the folders that killed gateways of this user left in ``base``, and none that holds anything else."""
    for path in base.glob(PREFIX + "*"):
        if _is_ours(path) and _is_stale(path):
            shutil.rmtree(path, ignore_errors=True)


def _base() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for candidate in (runtime, tempfile.gettempdir()):
        if candidate and len(candidate) <= _LONGEST and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate)
    return Path("/tmp")  # noqa: S108 -- the folder made in it is private


def _is_ours(path: Path) -> bool:
    try:
        info = path.lstat()
    except OSError:
        return False
    old_enough = time.time() - info.st_mtime > _YOUNG
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and old_enough


def _is_stale(path: Path) -> bool:
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return all(entry.name == "lock" or entry.name.endswith(".sock") for entry in path.iterdir())
    except OSError:
        return False
    finally:
        os.close(lock)
