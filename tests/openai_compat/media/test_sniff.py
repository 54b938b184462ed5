"""Only sounds in a container of the list reach a parser."""

from __future__ import annotations

import io
import zipfile

import pytest

from openai_compat.errors import InvalidRequest
from openai_compat.media.sniff import sniff

KINDS = {
    "wav": "wav", "flac": "flac", "mp3": "mp3", "ogg opus": "ogg", "ogg vorbis": "ogg", "ogg flac": "ogg", "m4a": "mp4",
    "mp4": "mp4", "alac": "mp4", "webm": "webm", "mka": "webm",
}  # fmt: skip


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.wav", b"RIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(("kind", "name"), KINDS.items())
def test_a_sound_is_known_by_its_first_bytes(make, kind, name) -> None:
    assert sniff(make(kind, 0.1)).name == name


@pytest.mark.parametrize(
    "head", [b"\xff\xfb\x90\x64", b"\xff\xf3\x40\xc4", b"\xff\xfa\x90\x00", b"ID3\x04\0\0\0\0\0\0\xff\xfb"]
)
def test_mp3_with_and_without_a_tag(head) -> None:
    assert sniff(head + bytes(100)).name == "mp3"


def test_flac_behind_a_tag_is_flac() -> None:
    assert sniff(b"ID3\x04\0\0\0\0\0\x05abcdefLaC"[:15] + b"fLaC").name == "flac"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"R",
        b"RIFF\0\0\0\0AVI LIST",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"#EXTM3U\n#EXTINF:10,\nhttp://10.0.0.1/secret.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=audio 5004 RTP/AVP 97\r\n",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"\0\0\0\x1cftypheic",
        b"\0\0\0\x1cftypavif",
        b"\0\0\0\x1cftypjp2 ",
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        zipped(),
        b"\x1f\x8b\x08\0",
        b"\x7fELF",
        b"%PDF-1.7",
        b"\xff\xf1\x50\x80",
        b"FORM\0\0\0\0AIFF",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        b"MThd\0\0\0\x06",
        b"\x00\x00\x01\xba",
        b"G" * 188,
        b'{"text": "hello"}',
        b"\xff\xff\xff\xff",
        b"\xff\xe8\x90\x64",
        b"ID3\x04\0\0\xff\xff\xff\xff",
        b"ID3",
    ],
)
def test_everything_else_is_refused_with_the_list(data) -> None:
    with pytest.raises(InvalidRequest, match="flac, m4a, mp3, mp4, ogg, wav and webm") as caught:
        sniff(data)
    assert caught.value.param == "file"
