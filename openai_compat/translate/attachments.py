"""Pictures and recordings inside a chat message: data URLs and base64 → domain parts.

Formats are told by their first bytes, never by what the client calls them.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from handlers.types import AudioPart, ImagePart
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from schemas.messages import ImageUrl, InputAudio

MAX_IMAGE_BYTES = 20 * 2**20
MAX_AUDIO_BYTES = 25 * 2**20
_HEADER_BYTES = 16


def to_image(image: ImageUrl | str, param: str) -> ImagePart:
    """Raises ``InvalidRequest`` naming ``param`` unless it is a ``data:`` URL of a PNG, JPEG, WebP or GIF."""
    url, detail = (image, None) if isinstance(image, str) else (image.url, image.detail)
    data = _data_url(url, param)
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(f"The image is larger than {MAX_IMAGE_BYTES} bytes.", param=param)
    if not _is_image(data[:_HEADER_BYTES]):
        raise InvalidRequest("The image must be a PNG, JPEG, WebP or GIF.", param=param)
    return ImagePart(data=data, detail=detail or "auto")


def to_audio(audio: InputAudio, param: str) -> AudioPart:
    """Raises ``InvalidRequest`` naming ``param`` unless it is base64 of a WAV, FLAC, MP3, OGG or M4A."""
    data = audio_bytes(audio, param)
    found = _audio_format(data[:_HEADER_BYTES])
    if found is None:
        raise InvalidRequest("The recording must be WAV, FLAC, MP3, OGG or M4A.", param=param)
    return AudioPart(data=data, format=found)


def audio_bytes(audio: InputAudio, param: str) -> bytes:
    """Whatever is said to be a recording. Raises ``InvalidRequest`` for broken base64 and for too much of it."""
    data = _data_url(audio.data, param) if audio.data.startswith("data:") else _base64(audio.data, param)
    if len(data) > MAX_AUDIO_BYTES:
        raise InvalidRequest(f"The recording is larger than {MAX_AUDIO_BYTES} bytes.", param=param)
    return data


def _data_url(url: str, param: str) -> bytes:
    """The payload of ``data:[type][;charset=…][;base64],…``; whatever the type says is tolerated."""
    if url[:5].lower() != "data:":
        raise UnsupportedParameter("This server does not fetch remote media; send a base64 `data:` URL instead.", param=param)
    header, comma, payload = url.partition(",")
    if not comma:
        raise InvalidRequest("The data URL has no comma before its data.", param=param)
    if header.rstrip().lower().endswith(";base64"):
        return _base64(payload, param)
    return unquote_to_bytes(payload)


def _base64(text: str, param: str) -> bytes:
    """Standard or URL-safe alphabet, with or without padding and line breaks."""
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("The data is not valid base64.", param=param) from None


def _is_image(head: bytes) -> bool:
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return webp or head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"))


def _audio_format(head: bytes) -> str | None:
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "wav"
    if head[4:8] == b"ftyp":
        return "m4a"
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return "mp3"
    known = {b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3"}
    return next((name for magic, name in known.items() if head.startswith(magic)), None)
