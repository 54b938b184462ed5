"""Pictures and recordings inside a JSON body: data URLs and base64 → the bytes of files, to be decoded elsewhere.

URLs of other servers are only read here; whether they are followed, and where to, ``media.fetch`` decides. Formats are told
by their first bytes, never by what the client calls them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from handlers.types import Picture, Sound
from openai_compat.errors import InvalidRequest
from openai_compat.media.sniff import sniff, sniff_picture
from openai_compat.media.urls import checked, is_remote
from schemas.messages import ImageUrl, InputAudio

MAX_IMAGE_BYTES = 50 * 2**20
MAX_AUDIO_BYTES = 25 * 2**20
MAX_PERCENT = 64 * 2**10  # reading such text takes 100 times its memory, and its time stops everything else: 5 ms
MAX_ATTACHMENTS = 16

Media: TypeAlias = Mapping[str, Picture | Sound]
"""What was decoded of a request, by the field that brought it."""


class Attachment(Struct, frozen=True, kw_only=True):
    """A file as it came; ``param`` is the field that brought it. ``alpha``: keep a picture's transparency.

    With a ``url`` it is still to be fetched.
    """

    param: str
    data: bytes = b""
    kind: Literal["picture", "audio"] = "picture"
    alpha: bool = False
    url: str = ""


def to_picture(image: ImageUrl | str, param: str, *, alpha: bool = False) -> Attachment:
    """Raises ``InvalidRequest`` naming ``param`` unless it is a ``data:`` URL of a PNG, JPEG, WebP or GIF, or a server's."""
    url = url_of(image)
    if _is_data(url):
        return picture_file(_data_url(url, param), param, alpha=alpha)
    return Attachment(param=param, alpha=alpha, url=checked(url, param))


def picture_file(data: bytes, param: str, *, alpha: bool = False) -> Attachment:
    """The same for a file. Raises ``InvalidRequest`` naming ``param``."""
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(f"The image is larger than {MAX_IMAGE_BYTES} bytes.", param=param)
    sniff_picture(data, param=param)
    return Attachment(param=param, data=data, alpha=alpha)


def to_recording(audio: InputAudio, param: str) -> Attachment:
    """Raises ``InvalidRequest`` naming ``param`` unless it is base64 of a WAV, FLAC, MP3, OGG, M4A or WebM, or a URL."""
    if is_remote(audio.data):
        return Attachment(param=param, kind="audio", url=checked(audio.data, param))
    data = _audio_bytes(audio, param)
    sniff(data, param=param)
    return Attachment(param=param, data=data, kind="audio")


def first_remote(given: Iterable[tuple[str, str]]) -> str | None:
    """Of fields and their texts, the first field that has its file on another server."""
    return next((param for param, text in given if is_remote(text)), None)


def url_of(image: ImageUrl | str) -> str:
    return image if isinstance(image, str) else image.url


def stand_ins(attachments: Iterable[Attachment]) -> Media:
    """As if everything had been decoded: for the checks that need no media."""
    return {part.param: _DOT if part.kind == "picture" else _SILENCE for part in attachments}


def picture_at(media: Media, param: str) -> Picture:
    found = media[param]
    if not isinstance(found, Picture):
        raise TypeError(f"{param} is no picture")
    return found


def sound_at(media: Media, param: str) -> Sound:
    found = media[param]
    if not isinstance(found, Sound):
        raise TypeError(f"{param} is no sound")
    return found


_DOT = Picture(width=1, height=1, pixels=bytes(3))
_SILENCE = Sound(pcm=b"", rate=16_000)


def _audio_bytes(audio: InputAudio, param: str) -> bytes:
    """Whatever is said to be a recording."""
    data = _data_url(audio.data, param) if _is_data(audio.data) else _base64(audio.data, param)
    if len(data) > MAX_AUDIO_BYTES:
        raise InvalidRequest(f"The recording is larger than {MAX_AUDIO_BYTES} bytes.", param=param)
    return data


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"


def _data_url(url: str, param: str) -> bytes:
    """The payload of ``data:[type][;charset=…][;base64],…``; whatever the type says is tolerated."""
    header, comma, payload = url.partition(",")
    if not comma:
        raise InvalidRequest("The data URL has no comma before its data.", param=param)
    if header.rstrip().lower().endswith(";base64"):
        return _base64(payload, param)
    if len(payload) > MAX_PERCENT:
        message = f"A data URL that is not base64 may hold {MAX_PERCENT} characters of data; send it as base64."
        raise InvalidRequest(message, param=param)
    return unquote_to_bytes(payload)


def _base64(text: str, param: str) -> bytes:
    """Standard or URL-safe alphabet, with or without padding and line breaks; as the standard has it, in half the time."""
    with suppress(binascii.Error, ValueError):
        return base64.b64decode(text, validate=True)
    compact = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("The data is not valid base64.", param=param) from None
