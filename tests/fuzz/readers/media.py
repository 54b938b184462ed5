"""Files by their first bytes, alone and in data URLs: one of the formats on the list, or a refusal naming the field."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TypeVar

from openai_compat.errors import InvalidRequest
from openai_compat.media.sniff import FLAC, MP3, MP4, OGG, WAV, WEBM, sniff, sniff_picture
from openai_compat.translate.attachments import to_picture, to_recording
from schemas.messages import InputAudio

T = TypeVar("T")
SOUNDS = (WAV, FLAC, MP3, OGG, MP4, WEBM)
PICTURES = ("PNG", "JPEG", "GIF", "WEBP")


def fuzz(data: bytes) -> None:
    sound = unless_refused(lambda: sniff(data, param="here"))
    picture = unless_refused(lambda: sniff_picture(data, param="here"))
    assert sound is None or sound in SOUNDS
    assert picture is None or picture in PICTURES
    assert sound is None or picture is None
    text = data.decode("utf-8", "replace")
    unless_refused(lambda: to_picture(text, "here"))
    unless_refused(lambda: to_recording(InputAudio(data=text), "here"))
    whole = "data:;base64," + base64.b64encode(data).decode()
    attachment = unless_refused(lambda: to_picture(whole, "here"))
    assert (attachment is None) == (picture is None)
    assert attachment is None or attachment.data == data


def unless_refused(act: Callable[[], T]) -> T | None:
    try:
        return act()
    except InvalidRequest as error:
        assert error.param == "here"
        error.message.encode()
        return None
