"""Ports of the loopback interface for engines, and a look at who listens there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

HOST = "127.0.0.1"
_ATTEMPTS = 32
_LISTENING = "0A"
_ROOT = 0


class Ports:
    """Ports that were given out and not given back are not given out again; who else takes one is not known beforehand."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port that nobody listens on. Raises ``OSError`` where there is none."""
        for _ in range(_ATTEMPTS):
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port: int = probe.getsockname()[1]
            if port not in self._taken:
                self._taken.add(port)
                return port
        raise OSError("There is no free port.")

    def give_back(self, port: int) -> None:
        self._taken.discard(port)


def is_strangers(port: int) -> bool:
    """Whether another user of this machine listens on ``port``: prompts must not go there. Known on Linux only.

    Root is nobody to hide from, and runs the proxies of container engines.
    """
    return any(uid not in (os.getuid(), _ROOT) for uid in _listeners(port))


def _listeners(port: int) -> set[int]:
    uids: set[int] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                uids.add(int(fields[7]))
    return uids
