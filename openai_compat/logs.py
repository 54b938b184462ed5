"""One way to log for the gateway, its workers and uvicorn: lines for people, or JSON for machines, on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from functools import lru_cache
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]
_QUIET = ("asyncio", "httpx", "httpx2", "httpcore", "httpcore2", "openai", "huggingface_hub", "urllib3", "filelock")


def configure(level: str, log_format: LogFormat, *, stream: TextIO | None = None) -> None:
    """Send every log record of this process to ``stream`` (standard error). Call it once, where the process starts."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.handlers.clear()
    uvicorn.setLevel(max(logging.WARNING, logging.getLogger().level))


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
