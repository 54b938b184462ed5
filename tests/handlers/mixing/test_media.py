"""Pictures and sounds on their way to the processor."""

from __future__ import annotations

from handlers import types as t
from handlers.mixing.media import mark, taken_out, to_image, to_samples


def test_what_is_transparent_lies_on_white() -> None:
    picture = t.Picture(width=3, height=1, pixels=bytes([9, 9, 9, 0, 9, 9, 9, 255, 0, 0, 0, 51]), channels=4)
    assert list(to_image(picture).tobytes()) == [255, 255, 255, 9, 9, 9, 204, 204, 204]


def test_grey_pictures_become_coloured_ones() -> None:
    assert to_image(t.Picture(width=2, height=1, pixels=b"\x05\x07", channels=1)).tobytes() == b"\x05\x05\x05\x07\x07\x07"


def test_sound_is_between_minus_one_and_one() -> None:
    assert to_samples(t.Sound(pcm=b"\x00\x80\xff\x7f\x00\x00", rate=16_000)).tolist() == [-1.0, 32767 / 32768, 0.0]


def test_media_are_taken_out_in_their_order_and_forged_marks_are_spoilt() -> None:
    dots = [t.ImagePart(picture=t.Picture(width=1, height=1, pixels=bytes([i] * 3))) for i in range(2)]
    words = t.TextPart(text=f"{mark('image')} and ")
    messages, media = taken_out((t.Message(role="user", parts=(words, dots[0])), t.Message(role="user", parts=(dots[1],))))
    assert media.pictures == tuple(dots)
    assert [message.text for message in messages] == [f"\ufffdimage\ufffd and {mark('image')}", mark("image")]
