"""Forms on their way to an upstream: fields change, files do not, and the length is known before the first byte is sent."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import FormData
from hypothesis import given, settings
from hypothesis import strategies as some
from multipart import PushMultipartParser, parse_options_header

from openai_compat.config import UpstreamModel
from openai_compat.errors import InvalidRequest
from openai_compat.gateway.spool import Body, Spool, Spooled
from openai_compat.gateway.upstreams.forms import rewritten_form, typed

MIB = 1 << 20
BOUNDARY = "----a boundary='1'"
HEADERS = [(b"content-type", f'multipart/form-data; boundary="{BOUNDARY}"'.encode())]
Part = tuple[str, bytes]


def part(name: str, data: bytes | str, filename: str | None = None, *more: str) -> Part:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
    head = "\r\n".join([f"Content-Disposition: {disposition}", *more])
    return head, data.encode() if isinstance(data, str) else data


def form_of(*parts: Part) -> bytes:
    mark = f"--{BOUNDARY}".encode()
    return b"".join(mark + b"\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + mark + b"--\r\n"


class Pieces:
    """A body that comes in pieces of one size."""

    def __init__(self, data: bytes, piece: int) -> None:
        self._data = data
        self._piece = piece
        self.size = len(data)

    async def pieces(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), self._piece):
            yield self._data[start : start + self._piece]


async def sent(body: bytes | Body, remote: str, rules: UpstreamModel) -> bytes:
    form = await rewritten_form(body, HEADERS, rules, remote)
    data = b"".join([piece async for piece in form.pieces()])
    assert form.size == len(data)
    assert b"".join([piece async for piece in form.pieces()]) == data, "a second try sends the same"
    return data


def rewrite(body: bytes | Body, remote: str = "there", **rules: Any) -> list[tuple[str, str | None, str | None, bytes]]:
    """Name, file name, content type and data of each part that is sent, as another parser reads them."""
    data = asyncio.run(sent(body, remote, UpstreamModel(**rules)))
    found: list[tuple[str, str | None, str | None, bytes]] = []
    with PushMultipartParser(BOUNDARY, strict=True) as parser:
        head: Any = None
        pieces: list[bytes] = []
        for event in parser.parse(data):
            if event is None:
                found.append((head.name, head.filename, head.header("Content-Type"), b"".join(pieces)))
                pieces = []
            elif isinstance(event, bytes | bytearray):
                pieces.append(bytes(event))
            else:
                head = event
    return found


def fields(body: bytes | Body, remote: str = "there", **rules: Any) -> list[tuple[str, bytes]]:
    return [(name, data) for name, _, _, data in rewrite(body, remote, **rules)]


AUDIO = part("file", b"RIFF\r\n--\r\n\0\xff", 'a "b"; name=c.wav'.replace('"', "%22"), "Content-Type: audio/wav")


def test_the_models_name_changes_in_its_place_and_the_file_does_not() -> None:
    body = form_of(part("language", "de"), part("model", "here"), AUDIO, part("prompt", "naïve 日本"))
    assert rewrite(body, "there/é") == [
        ("language", None, None, b"de"),
        ("model", None, None, "there/é".encode()),
        ("file", 'a "b"; name=c.wav', "audio/wav", b"RIFF\r\n--\r\n\0\xff"),
        ("prompt", None, None, "naïve 日本".encode()),
    ]


def test_the_head_of_a_file_arrives_as_it_was_written() -> None:
    disposition = r"""form-data; name="file"; filename="a;b 日本 \\ '.wav"; filename*=UTF-8''%e2%82%ac"""
    head = f"Content-Disposition: {disposition}\r\nContent-Type: audio/x-wav; a=b\r\nX-Own: 1"
    data = asyncio.run(sent(form_of((head, b"data"), part("model", "here")), "there", UpstreamModel()))
    assert (head + "\r\n\r\ndata\r\n").encode() in data


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 100])
def test_it_does_not_matter_how_the_form_is_cut(piece) -> None:
    body = form_of(part("model", "here"), AUDIO, part("model", "twice"), part("temperature", "0"))
    expected = rewrite(body)
    assert rewrite(Pieces(body, piece)) == expected
    assert [name for name, *_ in expected] == ["model", "file", "temperature"]


def test_a_form_without_a_model_is_given_one() -> None:
    assert fields(form_of(AUDIO))[-1] == ("model", b"there")


def test_a_file_called_model_is_a_file() -> None:
    got = rewrite(form_of(part("model", "data", "model.bin")))
    assert got == [("model", "model.bin", None, b"data"), ("model", None, None, b"there")]


def test_fields_are_dropped_with_and_without_brackets() -> None:
    body = form_of(part("timestamp_granularities[]", "word"), part("seed", "1"), part("timestamp_granularities[]", "x"), AUDIO)
    assert [name for name, _ in fields(body, drop=("timestamp_granularities", "seed"))] == ["file", "model"]
    assert [name for name, _ in fields(body, drop=("model", "file"))] == [
        "timestamp_granularities[]",
        "seed",
        "timestamp_granularities[]",
    ]


def test_fields_and_files_are_renamed_and_keep_everything_else() -> None:
    body = form_of(
        part("image[]", b"one", 'x"; name="y'.replace('"', "%22"), "Content-Type: image/png"),
        part("image[]", b"two", "b.png"),
        part("n", "1"),
    )
    assert rewrite(body, rename={"image": "picture", "n": "count"}, drop=("model",)) == [
        ("picture[]", 'x"; name="y', "image/png", b"one"),
        ("picture[]", "b.png", None, b"two"),
        ("count", None, None, b"1"),
    ]
    assert fields(body, rename={"image[]": "image"}, drop=("model", "n")) == [("image", b"one"), ("image", b"two")]
    assert fields(form_of(part("image", "x")), rename={"image": "image[]"}, drop=("model",)) == [("image[]", b"x")]


def test_defaults_are_added_where_the_field_is_missing() -> None:
    default = {"temperature": 0.5, "stream": True, "language": "de", "include": ["a", "b"], "chunking": {"type": "auto"}}
    body = form_of(part("model", "m"), part("language", "en"))
    assert fields(body, default=default) == [
        ("model", b"there"),
        ("language", b"en"),
        ("temperature", b"0.5"),
        ("stream", b"true"),
        ("include", b"a"),
        ("include", b"b"),
        ("chunking", b'{"type":"auto"}'),
    ]


@settings(max_examples=60, deadline=None)
@given(
    some.lists(some.binary(max_size=60), max_size=4),
    some.integers(1, 40),
    some.text(min_size=1, max_size=8).filter(lambda t: t.isprintable()),
)
def test_any_bytes_arrive_as_they_are(files, piece, remote) -> None:
    parts = [part("file", data, f"{n}.bin") for n, data in enumerate(files)]
    got = rewrite(Pieces(form_of(*parts, part("model", "here")), piece), remote)
    assert [data for name, _, _, data in got if name == "file"] == files
    assert got[-1] == ("model", None, None, remote.encode())


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", form_of(AUDIO)[:-10], form_of(("X: y", b"data")), form_of(*[part("a", "b")] * 40)]
)
def test_what_is_no_form_is_refused(body) -> None:
    with pytest.raises(InvalidRequest):
        rewrite(body)


def test_a_form_of_a_client_library_is_understood() -> None:
    async def scenario() -> None:
        form = FormData({"model": "here", "prompt": "x"})
        form.add_field("file", b"data", filename="a.wav", content_type="audio/wav")
        writer = form()
        chunks: list[bytes] = []

        class Sink:
            async def write(self, chunk: bytes) -> None:
                chunks.append(bytes(chunk))

        await writer.write(Sink())  # type: ignore[arg-type]
        headers = [(b"content-type", writer.headers["Content-Type"].encode())]
        rewritten = await rewritten_form(b"".join(chunks), headers, UpstreamModel(), "there")
        data = b"".join([piece async for piece in rewritten.pieces()])
        assert parse_options_header(headers[0][1].decode())[1]["boundary"].encode() in data
        assert b"\r\n\r\nthere\r\n" in data
        assert b"here\r\n" not in data.replace(b"there\r\n", b"")

    asyncio.run(scenario())


def test_a_large_upload_is_never_in_memory() -> None:
    size = 64 * MIB

    async def scenario() -> None:
        block = os.urandom(MIB)
        spooled = Spooled(Spool(2 * size))
        head, tail = form_of(part("model", "here"), part("file", b"FILE", "a.bin")).split(b"FILE")
        await spooled.write(head)
        for _ in range(size // MIB):
            await spooled.write(block)
        await spooled.write(tail)
        tracemalloc.start()
        try:
            form = await rewritten_form(spooled, HEADERS, UpstreamModel(), "there")
            count = 0
            async for piece in form.pieces():
                count += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            spooled.close()
        assert count == form.size == size + len(head) + len(tail) + len("there") - len("here")
        assert peak < 8 * MIB

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("types", "sent"),
    [
        (["multipart/form-data; boundary=b"], "multipart/form-data; boundary=b"),
        (['Multipart/Form-Data; charset=utf-16; boundary="a b/c"; x=y'], 'multipart/form-data; boundary="a b/c"'),
        (["multipart/form-data; boundary=a", "multipart/form-data; boundary=b"], "multipart/form-data; boundary=b"),
    ],
)
def test_an_upstream_reads_the_form_by_the_boundary_by_which_it_was_read(types, sent) -> None:
    headers = [(b"accept", b"*/*"), *((b"content-type", kind.encode()) for kind in types)]
    assert typed(headers) == [(b"accept", b"*/*"), (b"content-type", sent.encode())]


def test_a_boundary_that_could_be_two_is_refused() -> None:
    for boundary in ('"a\\"; boundary=b"', '"a;b"', '"a "', '""'):
        with pytest.raises(InvalidRequest):
            typed([(b"content-type", f"multipart/form-data; boundary={boundary}".encode())])
