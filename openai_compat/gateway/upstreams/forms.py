"""A multipart body with some of its fields changed, written anew while it is read: never in memory as a whole.

The parts are written as our own parser understood them, so nobody can mean two things by one form: the headers of each with the
same values, the bytes of each file as they are, the boundary the same. A first reading counts the bytes, a second one sends.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
from msgspec import Struct
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from openai_compat.config import UpstreamModel
from openai_compat.errors import InvalidRequest
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.spool import Body
from openai_compat.http.form import FORM_TYPE, MAX_HEADER, MAX_HEADERS, MAX_PARTS

_LIST = "[]"
_TYPE = b"content-type"
_BOUNDARY = re.compile(r"[\w'()+,./:=? *-]*[\w'()+,./:=?*-]", re.ASCII)  # a space is not its end
_TOKEN = re.compile(r"[\w'+.*-]+", re.ASCII)
_DISPOSITION = "Content-Disposition"
_PARAMETER = re.compile(r';\s*(?P<name>[^=;\s]+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^;]*)')


class Changes(Struct, frozen=True, kw_only=True):
    """What becomes of the fields of a form. ``set`` replaces those of a name, and adds what is not there."""

    set: dict[str, str]
    drop: tuple[str, ...]
    rename: dict[str, str]
    default: dict[str, tuple[str, ...]]


class RewrittenForm:
    """A form with ``changes`` made; ``size`` bytes long, which ``rewritten_form`` finds out."""

    def __init__(self, body: Body, boundary: str, changes: Changes) -> None:
        self._body = body
        self._boundary = boundary
        self._changes = changes
        self.size = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        writer = _Writer(self._boundary, self._changes)
        async for piece in self._body.pieces():
            for written in writer.take(piece):
                yield written
        yield writer.end()

    async def measure(self) -> None:
        self.size = sum([len(piece) async for piece in self.pieces()])


async def rewritten_form(body: bytes | Body, headers: Headers, model: UpstreamModel, remote_name: str) -> RewrittenForm:
    """``body`` as an upstream is to get it. Raises ``InvalidRequest`` where it is no form."""
    changes = Changes(
        set={} if "model" in model.drop else {"model": remote_name},
        drop=model.drop,
        rename=model.rename,
        default={name: _texts(value) for name, value in model.default.items()},
    )
    form = RewrittenForm(_Whole(body) if isinstance(body, bytes) else body, _boundary(headers), changes)
    try:
        await form.measure()
    except MultipartError:
        raise InvalidRequest("The form is malformed, or ends too early.") from None
    return form


def typed(headers: Headers) -> Headers:
    """With one type, of one boundary: the one by which the form was read, since it may be another form by another one.

    Raises ``InvalidRequest``.
    """
    boundary = _boundary(headers)
    if not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest("The content type of the form names no usable boundary.")
    quote = "" if _TOKEN.fullmatch(boundary) else '"'
    kind = f"{FORM_TYPE}; boundary={quote}{boundary}{quote}"
    return [*(pair for pair in headers if pair[0] != _TYPE), (_TYPE, kind.encode())]


def _boundary(headers: Headers) -> str:
    """As ``http.form`` reads it; of two types the last one counts."""
    found = [value.decode("latin-1") for name, value in headers if name == _TYPE]
    return str(parse_options_header(found[-1])[1].get("boundary", "")) if found else ""


class _Whole:
    """A form in memory."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.size = len(body)

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self._body


class _Writer:
    """Takes a form piece by piece, and gives the changed one."""

    def __init__(self, boundary: str, changes: Changes) -> None:
        self._mark = b"--" + boundary.encode()
        self._changes = changes
        self._there: set[str] = set()
        self._replaced: set[str] = set()
        self._silent = False  # whether the data of the part that is read now is left out
        self._parser = PushMultipartParser(
            boundary, max_header_size=MAX_HEADER, max_header_count=MAX_HEADERS, max_segment_count=MAX_PARTS,
            max_segment_size=math.inf,
        )  # fmt: skip

    def take(self, piece: bytes) -> Iterator[bytes]:
        if not piece or self._parser.closed:
            return
        for event in self._parser.parse(piece):
            if isinstance(event, MultipartSegment):
                yield from self._begin(event)
            elif event is None:
                if not self._silent:
                    yield b"\r\n"
            elif not self._silent:
                yield bytes(event)

    def end(self) -> bytes:
        """What is added, and the end. Raises ``MultipartError`` where the form was not complete."""
        self._parser.close()
        added = [(name, value) for name, value in self._changes.set.items() if name not in self._replaced]
        for name, values in self._changes.default.items():
            if _bare(name) not in self._there | self._replaced:
                added += [(name, value) for value in values]
        return b"".join(self._field(name, value) for name, value in added) + self._mark + b"--\r\n"

    def _begin(self, part: MultipartSegment) -> Iterator[bytes]:
        """The head of ``part`` as it is to be. A replaced field comes whole, in the place of the first of its name."""
        name = part.name or ""
        changes = self._changes
        self._silent = True
        if part.filename is None and name in changes.set:
            if name not in self._replaced:
                self._replaced.add(name)
                yield self._field(name, changes.set[name])
            return
        if name in changes.drop or _bare(name) in changes.drop:
            return
        self._silent = False
        renamed = _renamed(name, changes.rename)
        self._there.add(_bare(renamed))
        yield self._head(part, None if renamed == name else renamed)

    def _head(self, part: MultipartSegment, name: str | None) -> bytes:
        lines = [
            f"{header}: {_with_name(value, name) if name is not None and header == _DISPOSITION else value}\r\n"
            for header, value in part.headerlist
        ]
        return self._mark + b"\r\n" + "".join(lines).encode() + b"\r\n"

    def _field(self, name: str, value: str) -> bytes:
        head = f'{_DISPOSITION}: form-data; name="{_quoted(name)}"\r\n\r\n'
        return self._mark + b"\r\n" + head.encode() + value.encode() + b"\r\n"


def _bare(name: str) -> str:
    return name.removesuffix(_LIST)


def _renamed(name: str, rename: dict[str, str]) -> str:
    """A rule for ``image`` is about ``image[]`` too, which then stays a list."""
    if name in rename:
        return rename[name]
    new = rename.get(_bare(name), "")
    return f"{_bare(new)}{_LIST}" if new else name


def _with_name(disposition: str, name: str) -> str:
    """Only the parameter called so is changed, and what looks like one inside a file's name is not."""

    def replaced(found: re.Match[str]) -> str:
        return f'; name="{_quoted(name)}"' if found["name"].lower() == "name" else found[0]

    return _PARAMETER.sub(replaced, disposition)


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _texts(value: Any) -> tuple[str, ...]:
    """A value of the configuration as forms have it."""
    if isinstance(value, list):
        return tuple(text for item in value for text in _texts(item))
    return (value,) if isinstance(value, str) else (msgspec.json.encode(value).decode(),)
