"""Orders for videos: what no model could make, and what a handler gets."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from handlers.types import Picture
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.protocol import RelayFacts
from openai_compat.translate import videos
from schemas.videos import CreateVideoRequest, ImageReference

FACTS = RelayFacts(request_id="r", model="m", public_model="m", mode="calm")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def order(**fields: Any) -> CreateVideoRequest:
    return CreateVideoRequest(**{"prompt": "sea", **fields})


def test_every_field_reaches_the_handler() -> None:
    dot = Picture(width=1, height=1, pixels=b"abc")
    body = order(seconds="2.5", size="64x48", negative_prompt="fog", frames=9, fps=12, steps=4, guidance=3, seed=5, mode="wild")
    request = videos.to_request(body, dot, FACTS)
    assert (request.prompt, request.seconds, request.width, request.height) == ("sea", 2.5, 64, 48)
    assert (request.negative_prompt, request.frames, request.rate, request.steps) == ("fog", 9, 12, 4)
    assert (request.guidance, request.seed, request.image, request.mode) == (3, 5, dot, "wild")


def test_what_is_left_out_is_the_model_s_to_choose_and_the_mode_the_name_s() -> None:
    request = videos.to_request(order(), None, FACTS)
    assert request.mode == "calm"
    assert {request.seconds, request.frames, request.rate, request.width, request.height, request.steps} == {None}


@pytest.mark.parametrize("seconds", [4, 4.0, "4", "4.0"])
def test_a_length_is_a_number_or_a_text(seconds: Any) -> None:
    assert videos.seconds_of(order(seconds=seconds)) == 4.0


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": " \n"}, "prompt"),
        ({"seconds": "0.000"}, "seconds"),
        ({"seconds": "121"}, "seconds"),
        ({"size": "14x64"}, "size"),
        ({"size": "64x4098"}, "size"),
        ({"size": "65x64"}, "size"),
    ],
)
def test_what_no_model_could_make_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        videos.plan(order(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize("fields", [{"size": "640x480\n"}, {"seconds": "4\n"}])
def test_a_line_break_is_no_part_of_a_number(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        videos.plan(order(**fields))
    assert caught.value.param == next(iter(fields))


def test_a_picture_comes_as_a_data_url_or_as_the_url_of_a_server() -> None:
    given = videos.reference(order(input_reference=ImageReference(image_url=f"data:image/png;base64,{PNG}")))
    assert given is not None
    assert given.data == b"\x89PNG\r\n\x1a\n"
    assert videos.reference(order()) is None
    far = videos.reference(order(input_reference=ImageReference(image_url="https://example.org/a.png")))
    assert far is not None
    assert (far.url, far.data) == ("https://example.org/a.png", b"")
    for reference in (ImageReference(file_id="file-1"), ImageReference(image_url="file:///a.png")):
        with pytest.raises(UnsupportedParameter) as caught:
            videos.reference(order(input_reference=reference))
        assert str(caught.value.param).startswith("input_reference.")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "auto"), (4.0, "4"), (1.5, "1.5"), (16 / 12, "1.333"), (0.0416, "0.042")]
)
def test_lengths_are_shown_as_clients_write_them(seconds: float | None, shown: str) -> None:
    assert videos.shown_seconds(seconds) == shown
