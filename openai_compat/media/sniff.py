"""What a file is, by its first bytes alone: names, extensions and content types of clients prove nothing.

An allow-list: formats that lead to other files (playlists, AVI's indexes, concatenation scripts), archives, and pictures of
any but four formats never reach a parser.
"""

from __future__ import annotations

from msgspec import Struct

from openai_compat.errors import InvalidRequest

TAKEN = "flac, m4a, mp3, mp4, ogg, wav and webm"
PICTURES = "PNG, JPEG, WebP and GIF"
_BRANDS = (b"isom", b"iso", b"mp4", b"mp7", b"M4A", b"M4B", b"M4V", b"dash", b"qt  ", b"3g", b"avc1", b"MSNV", b"F4", b"mmp4")


class Container(Struct, frozen=True):
    """``name`` for people, ``demuxer`` for the library: the only one that will read the bytes."""

    name: str
    demuxer: str


WAV = Container("wav", "wav")
FLAC = Container("flac", "flac")
MP3 = Container("mp3", "mp3")
OGG = Container("ogg", "ogg")
MP4 = Container("mp4", "mp4")
WEBM = Container("webm", "matroska")


def sniff(data: bytes, *, param: str = "file") -> Container:
    """The container of a sound. Raises ``InvalidRequest`` naming ``param`` for anything that is not taken."""
    found = _by_magic(data)
    if found is None:
        raise InvalidRequest(f"The file is not in a format that is taken here: {TAKEN}.", param=param, code="invalid_value")
    return found


def sniff_picture(data: bytes, *, param: str) -> str:
    """The format of a picture as Pillow names it. Raises ``InvalidRequest`` naming ``param`` for anything that is not taken."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise InvalidRequest(f"The picture is not in a format that is taken here: {PICTURES}.", param=param, code="invalid_image")


def _by_magic(data: bytes) -> Container | None:
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return WAV
    if data[:4] == b"fLaC":
        return FLAC
    if data[:4] == b"OggS":
        return OGG
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return WEBM
    if data[4:8] == b"ftyp" and data[8:12].startswith(_BRANDS):
        return MP4
    if data[:3] == b"ID3":
        return _behind_tag(data)
    return MP3 if _is_mpeg_audio(data) else None


def _behind_tag(data: bytes) -> Container | None:
    """ID3 stands before MP3, and sometimes before FLAC; its length has seven bits a byte."""
    if len(data) < 10 or any(byte > 0x7F for byte in data[6:10]):
        return None
    size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
    return FLAC if data[10 + size : 14 + size] == b"fLaC" else MP3


def _is_mpeg_audio(data: bytes) -> bool:
    """A frame header of MPEG audio, layers I to III, none of its fields reserved."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return False
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    bit_rate, sample_rate = data[2] >> 4, data[2] >> 2 & 3
    return version != 1 and layer != 0 and bit_rate not in (0, 15) and sample_rate != 3
