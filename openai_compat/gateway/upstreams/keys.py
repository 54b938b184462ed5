"""The key of an upstream: from the environment or a file, and nowhere else to be seen."""

from __future__ import annotations

import os
import re
import time

from openai_compat.config import Upstream

_LOOK_EVERY = 1.0  # seconds; a stat a request is little, but the file may be on a slow disk
_LARGEST_FILE = 1 << 16
_FIT = re.compile(r"[\x21-\x7e]+")
_BEARER = "authorization"

Pairs = tuple[tuple[str, str], ...]


class KeyUnavailable(Exception):
    """There should be a key, and there is none. The message is for the log: it names neither the file nor the key."""


class Key:
    """The headers that say who we are to one upstream. A file that has changed is read again within a second.

    ``headers`` returns the same object until the key changes.
    """

    def __init__(self, settings: Upstream, *, look_every: float = _LOOK_EVERY) -> None:
        self._settings = settings
        self._look_every = look_every
        self._look_at = 0.0
        self._seen: tuple[int, int, int] | None = None
        self._headers: Pairs | None = None
        self._secret = ""

    @property
    def secret(self) -> str:
        """The key that was sent last; empty where there is none."""
        return self._secret

    def headers(self) -> Pairs:
        """Raises ``KeyUnavailable``."""
        if self._headers is None or (self._settings.api_key_file and time.monotonic() >= self._look_at):
            self._look()
        return self._headers or ()

    def _look(self) -> None:
        self._look_at = time.monotonic() + self._look_every
        if self._settings.api_key_file:
            seen = _stamp(self._settings.api_key_file)
            if self._headers is None or seen != self._seen:
                self._headers = None  # a file that cannot be read any more gives no key either
                self._take(_read(self._settings.api_key_file))
                self._seen = seen
        elif name := self._settings.api_key_env:
            if not os.environ.get(name):
                raise KeyUnavailable("the environment variable with its key is not set")
            self._take(os.environ[name])
        else:
            self._headers = _names(self._settings)

    def _take(self, text: str) -> None:
        secret = text.strip()
        if not _FIT.fullmatch(secret):
            raise KeyUnavailable("its key is empty, or holds more than one word of ASCII")
        header = self._settings.api_key_header.lower()
        value = f"Bearer {secret}" if header == _BEARER else secret
        self._secret = secret
        self._headers = ((header, value), *_names(self._settings))


def _names(settings: Upstream) -> Pairs:
    pairs = (("openai-organization", settings.organization), ("openai-project", settings.project))
    return tuple((name, value) for name, value in pairs if value)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise KeyUnavailable(_unreadable(error)) from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise KeyUnavailable(_unreadable(error)) from None
    except UnicodeDecodeError:
        raise KeyUnavailable("the file with its key is no text") from None


def _unreadable(error: OSError) -> str:
    return f"the file with its key cannot be read: {os.strerror(error.errno or 0)}"
