"""One way to log for the gateway, its workers and uvicorn: lines for people, or JSON for machines, on standard error.

Where nobody reads them, lines are lost: a server that waited for its log would wait for ever.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
import time
from functools import lru_cache
from io import UnsupportedOperation
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]
_QUIET = ("asyncio", "httpx", "httpx2", "httpcore", "httpcore2", "openai", "huggingface_hub", "urllib3", "filelock")
_PATIENCE = 100  # milliseconds for which a line waits for room, unless those before it did so in vain


def configure(level: str, log_format: LogFormat, *, stream: TextIO | None = None) -> None:
    """Send every log record of this process to ``stream`` (standard error). Call it once, where the process starts."""
    handler = _handler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.handlers.clear()
    uvicorn.setLevel(max(logging.WARNING, logging.getLogger().level))


class Unwaiting(logging.Handler):
    """Writes to a descriptor as long as it has room, and tells how many lines it had none for once it has some again."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # as every handler does with a line that cannot be made
            self.handleError(record)
            return
        if not self._room.poll(0 if self._lost else _PATIENCE):
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        self._write(f"{line}\n" if not lost else f"{lost} lines of the log were lost, since nobody read it\n{line}\n")

    def _write(self, text: str) -> None:
        """A page at a time: that much there is room for."""
        data = memoryview(text.encode(errors="backslashreplace"))
        with contextlib.suppress(OSError):  # whoever read it has gone
            while data and self._room.poll(_PATIENCE):
                data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]


def _handler(stream: TextIO | None) -> logging.Handler:
    if stream is None:  # it was closed before this process began
        return logging.NullHandler()
    try:
        return Unwaiting(stream.fileno())
    except UnsupportedOperation:
        return logging.StreamHandler(stream)


class TextFormatter(logging.Formatter):
    """``13:20:01 info    POST /v1/chat/completions 200 …``; control characters of a message are shown, never obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_local(int(record.created))} {record.levelname.lower():<7} {printable(record.getMessage())}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JSONFormatter(logging.Formatter):
    """One object a line; ``extra={"fields": {…}}`` of a record, or what makes them, becomes keys of the object."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        entry: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(fields() if callable(fields) else fields),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that a URL can neither forge a log line nor steer a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _utc(seconds: float) -> str:
    return f"{_whole_utc(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=2)  # a second has many lines
def _whole_utc(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@lru_cache(maxsize=2)
def _local(seconds: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
