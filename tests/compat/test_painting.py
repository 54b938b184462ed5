"""The bundled painter as clients reach it: pictures, on the way and in the end, edits, and work that ends with its client."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image, ImageDraw

MODEL = "shapes"
CIRCLE = "a red circle on a blue background"
PATIENCE = 10.0  # seconds to end one step; the whole work that is left takes twice as long on a machine with nothing else to do


@pytest.fixture(scope="module")
def painter_server(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("painter")
    config = folder / "config.toml"
    config.write_text(f'[models.{MODEL}]\nsource = "bundled:{MODEL}"\nthreads = 1\n')
    running = type(server)(config, folder)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def painter(painter_server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=painter_server.base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def plain(painter_server: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=painter_server.origin, timeout=120) as client:
        yield client


def opened(b64: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64 or ""))).convert("RGB")


def file_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def share(image: Image.Image, channel: int) -> float:
    """How much of a picture has one channel far above both others."""
    pixels = [image.getpixel((x, y)) for x in range(image.width) for y in range(image.height)]
    return sum(all(pixel[channel] > pixel[i] + 60 for i in {0, 1, 2} - {channel}) for pixel in pixels) / len(pixels)


def test_the_picture_has_the_colours_of_the_prompt(painter: openai.OpenAI) -> None:
    answer = painter.images.generate(prompt=CIRCLE, n=2, extra_body={"seed": 7})
    pictures = [opened(item.b64_json) for item in answer.data or ()]
    assert len(pictures) == 2
    for picture in pictures:
        assert (picture.size, answer.size) == ((64, 64), "64x64")
        assert share(picture, 2) > 0.5
        assert 0.05 < share(picture, 0) < 0.5
    assert pictures[0].tobytes() != pictures[1].tobytes()


def test_partial_pictures_come_nearer_to_the_picture(painter: openai.OpenAI) -> None:
    body: Any = {"prompt": CIRCLE, "extra_body": {"seed": 7}}
    events = list(painter.images.generate(**body, stream=True, partial_images=3))
    assert [event.type.partition(".")[2] for event in events] == ["partial_image"] * 3 + ["completed"]
    *partial, last = (opened(event.b64_json) for event in events)
    far = [sum(abs(a - b) for a, b in zip(picture.tobytes(), last.tobytes(), strict=True)) for picture in partial]
    assert far == sorted(far, reverse=True)
    assert last.tobytes() == opened((painter.images.generate(**body).data or [])[0].b64_json).tobytes()


def test_outside_of_the_mask_the_picture_stays(painter: openai.OpenAI) -> None:
    before = opened((painter.images.generate(prompt=CIRCLE, extra_body={"seed": 7}).data or [])[0].b64_json)
    mask = Image.new("RGBA", before.size, (0, 0, 0, 255))
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), (0, 0, 0, 0))
    prompt = "a red circle on a green background"
    answer = painter.images.edit(image=file_of(before), mask=file_of(mask), prompt=prompt, extra_body={"seed": 1})
    after = opened((answer.data or [])[0].b64_json)
    kept, painted = (36, 0, 64, 64), (0, 0, 28, 64)
    assert share(after.crop(painted), 1) > 0.3 > share(before.crop(painted), 1)
    assert share(after.crop(kept), 2) == pytest.approx(share(before.crop(kept), 2), abs=0.1)


def test_a_chat_with_a_model_that_only_paints_is_a_picture(painter: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": CIRCLE}]
    answer = painter.chat.completions.create(model=MODEL, messages=messages, seed=7)
    (image,) = answer.choices[0].message.model_extra["images"]  # type: ignore[index]
    assert share(opened(image["image_url"]["url"].partition(",")[2]), 2) > 0.5


def test_a_size_that_the_model_cannot_make_is_a_bad_request(painter: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        painter.images.generate(prompt=CIRCLE, size="1024x1024")
    assert caught.value.param == "size"


def active(plain: httpx2.Client) -> bool:
    lines = plain.get("/metrics").text.splitlines()
    return f'openai_compat_model_active{{model="{MODEL}"}} 1.0' in lines


@pytest.mark.parametrize("stream", [False, True])
def test_work_ends_within_a_step_when_its_client_leaves(painter: openai.OpenAI, plain: httpx2.Client, stream: bool) -> None:
    painter.images.generate(prompt=CIRCLE, extra_body={"steps": 1})
    body = {"prompt": CIRCLE, "n": 10, "steps": 200, "stream": stream}
    if stream:
        with plain.stream("POST", "/v1/images/generations", json=body) as answer:
            assert next(line for line in answer.iter_lines() if line).startswith(": progress 1/")
            assert active(plain)
    else:
        with pytest.raises(httpx2.TimeoutException):
            plain.post("/v1/images/generations", json=body, timeout=1.0)
    deadline = time.monotonic() + PATIENCE
    while active(plain):
        assert time.monotonic() < deadline, "the model goes on for nobody"
        time.sleep(0.05)
