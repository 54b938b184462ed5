"""Forms as they arrive: in any pieces, complete or broken, within the limits or beyond."""

from __future__ import annotations

import contextlib
import random
import tracemalloc

import pytest

from openai_compat.errors import InvalidRequest
from openai_compat.http import form as module
from openai_compat.http.form import Form, FormReader, is_form

TYPE = "multipart/form-data; boundary=b0undary"


def part(disposition: str, data: bytes = b"", more: str = "") -> bytes:
    return f"--b0undary\r\ncontent-disposition: form-data; {disposition}\r\n{more}\r\n".encode() + data + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b0undary--\r\n"


def read(data: bytes, *, step: int = 0, keep: bool = True, content_type: str = TYPE) -> Form:
    reader = FormReader(content_type, keep_files=keep)
    for start in range(0, len(data), step or len(data) or 1):
        reader.feed(data[start : start + (step or len(data))])
    return reader.finish()


WHOLE = body(
    part('name="model"', b"whisper"),
    part('name="granularities[]"', b"word"),
    part('name="file"; filename="a.wav"', b"RIFF\r\n--b0undar\r\n" * 5, "Content-Type: audio/wav\r\n"),
    part('name="granularities[]"', b"segment"),
    part('name="prompt"', "naïve 日本".encode()),
)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 64])
def test_a_form_is_the_same_in_any_pieces(step) -> None:
    form = read(WHOLE, step=step)
    assert form.fields == {"model": ["whisper"], "granularities[]": ["word", "segment"], "prompt": ["naïve 日本"]}
    upload = form.file("file")
    assert (upload.filename, upload.content_type, upload.size) == ("a.wav", "audio/wav", 85)
    assert upload.data == b"RIFF\r\n--b0undar\r\n" * 5


def test_a_reader_that_keeps_no_files_counts_them() -> None:
    upload = read(WHOLE, keep=False).file("file")
    assert (upload.data, upload.size) == (b"", 85)


def test_memory_does_not_grow_with_a_file_that_is_not_kept() -> None:
    reader = FormReader(TYPE, keep_files=False)
    reader.feed(part('name="file"; filename="x"')[:-2])
    tracemalloc.start()
    for _ in range(200):
        reader.feed(b"x" * 65536)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("disposition", "more"),
    [
        ('name="file"; filename=""', ""),
        ('name="file"; filename="noextension"', ""),
        ("name=file; filename=plain.wav", ""),
        ('name="file"', "Content-Type: application/octet-stream\r\n"),
        ('name="file"', "Content-Type: audio/mpeg\r\n"),
        ('name="file[]"; filename="x"', ""),
        ('name="file"; filename="x"; filename*=UTF-8\'\'x%20y', ""),
    ],
)
def test_a_file_however_it_is_called(disposition, more) -> None:
    assert read(body(part(disposition, b"data", more))).file("file").data == b"data"


@pytest.mark.parametrize(
    "data",
    [
        body(part('name="model"', b"m")),
        body(part('name="file"; filename=""')),
        body(part('name="file"; filename="a.wav"')),
        body(part('name="file"', b"a text of this name is no file")),
        body(part('name="file"; filename="a"', b"1"), part('name="file"; filename="b"', b"2")),
    ],
    ids=["none", "none chosen", "empty", "text", "two"],
)
def test_a_missing_file_is_named(data) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(data).file("file")
    assert caught.value.param == "file"


def test_a_form_without_parts_is_empty() -> None:
    assert read(body()) == Form(fields={}, files={})


@pytest.mark.parametrize("data", [b"", b"nothing", WHOLE[:-20], WHOLE[:100], b"--b0undary", WHOLE.replace(b"form-data", b"x")])
@pytest.mark.parametrize("step", [0, 1])
def test_a_broken_form_is_refused(data, step) -> None:
    with pytest.raises(InvalidRequest):
        read(data, step=step)


@pytest.mark.parametrize(
    "data",
    [
        body(*[part(f'name="f{number}"', b"x") for number in range(33)]),
        body(part('name="a"', b"x", f"X-Long: {'y' * 5000}\r\n")),
        body(part('name="a"', b"x", "".join(f"X-{number}: {'y' * 1000}\r\n" for number in range(5)))),
        body(part('name="a"', b"x", "".join(f"X-{number}: y\r\n" for number in range(20)))),
        body(part(f'name="{"n" * 300}"', b"x")),
        body(part('name=""', b"x")),
        body(part("filename=x", b"x")),
        body(part('name="a"', b"x" * (module.MAX_FIELD + 1))),
        body(*[part(f'name="{number}"', b"x" * module.MAX_FIELD) for number in range(5)]),
        body(part('name="a"', b"\xff\xfe")),
        part('name="a"')[:-4] + b"\r\n" + b"y" * 100_000,
    ],
    ids=[
        "parts", "long header", "headers together", "many headers", "long name", "empty name", "no name", "field", "fields",
        "not utf-8", "endless header",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [0, 1000])
def test_what_goes_beyond_the_limits_is_refused(data, step) -> None:
    with pytest.raises(InvalidRequest):
        read(data, step=step)


def test_a_field_that_is_too_long_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(body(part('name="prompt"', b"x" * (module.MAX_FIELD + 1))), step=4096)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", TYPE + "x" * 300])
def test_a_boundary_must_be_named(content_type) -> None:
    with pytest.raises(InvalidRequest, match="boundary"):
        read(WHOLE, content_type=content_type)


@pytest.mark.parametrize("step", [0, 1])
def test_what_follows_the_last_boundary_does_not_matter(step) -> None:
    assert read(WHOLE + b"\r\nan epilogue", step=step).fields["model"] == ["whisper"]


def test_a_form_is_told_by_its_content_type() -> None:
    assert is_form("Multipart/Form-Data; boundary=x")
    assert not is_form("multipart/mixed; boundary=x")
    assert not is_form("")


def test_whatever_bytes_come_the_answer_is_a_form_or_a_refusal() -> None:
    chance = random.Random(7)
    for _ in range(400):
        data = bytearray(WHOLE)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with contextlib.suppress(InvalidRequest):
            assert isinstance(read(bytes(data), step=chance.randint(1, 50)), Form)


@pytest.mark.parametrize("step", [0, 1, 6])
@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_line_break_within_a_header_is_refused_however_it_is_cut(end, step) -> None:
    data = body(part(f'name="a"; filename="b"{end}content-type: text/html', b"x"))
    with pytest.raises(InvalidRequest):
        read(data, step=step)
