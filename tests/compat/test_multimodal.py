"""Models that see and paint as clients reach them: tiny ones with random weights, on a server of their own."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

MODELS = ("llava", "janus", "qwen2_audio")
GREEDY = {"temperature": 0, "max_tokens": 8, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def seeing_server(tiny_mixed: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("seeing")
    config = folder / "config.toml"
    models = [f"[models.{name}]\nsource = {json.dumps(str(tiny_mixed(name)))}\nthreads = 1\n" for name in MODELS]
    config.write_text("".join(models))
    running = type(server)(config, folder)
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def sdk(seeing_server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=seeing_server.base_url, api_key="none", max_retries=0) as client:
        yield client


def about(*colors: tuple[int, int, int], text: str = "What is it?") -> list[dict[str, Any]]:
    """A user message with a picture of each colour."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for color in colors:
        file = io.BytesIO()
        Image.new("RGB", (48, 40), color).save(file, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        content.append({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
    return [{"role": "user", "content": content}]


RED, BLUE = (220, 20, 30), (20, 40, 220)


@pytest.mark.parametrize("model", ["llava", "janus"])
def test_a_chat_with_a_picture_is_answered_whole_and_as_the_same_stream(sdk: openai.OpenAI, model: str) -> None:
    whole = sdk.chat.completions.create(model=model, messages=about(RED), **GREEDY)
    stream = sdk.chat.completions.create(
        model=model, messages=about(RED), stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens > 16
    other = sdk.chat.completions.create(model=model, messages=about(BLUE), **GREEDY)
    assert other.choices[0].message.content != text


def test_a_picture_s_tokens_are_counted_before_it_is_sent(sdk: openai.OpenAI) -> None:
    body = {"model": "llava", "messages": about(RED)}
    counted = sdk.post("/tokenize", body=body, cast_to=dict[str, Any])["count"]
    answer = sdk.chat.completions.create(model="llava", messages=about(RED), **GREEDY)
    assert counted == answer.usage.prompt_tokens > 16


def test_a_chat_with_a_recording_is_heard(sdk: openai.OpenAI) -> None:
    """At 8 kHz, which is not the model's rate."""

    def ask(step: int) -> str:
        file = io.BytesIO()
        with wave.open(file, "wb") as recording:
            recording.setnchannels(1)
            recording.setsampwidth(2)
            recording.setframerate(8_000)
            recording.writeframes(b"".join(struct.pack("<h", i * step * 37 % 20_000 - 10_000) for i in range(6_000)))
        audio = {"data": base64.b64encode(file.getvalue()).decode(), "format": "wav"}
        content = [{"type": "text", "text": "Who is it?"}, {"type": "input_audio", "input_audio": audio}]
        answer = sdk.chat.completions.create(model="qwen2_audio", messages=[{"role": "user", "content": content}], **GREEDY)
        assert answer.usage.prompt_tokens > 16
        return answer.choices[0].message.content

    assert ask(3) != ask(11)


def test_a_picture_s_tokens_are_found_again_and_counted(sdk: openai.OpenAI) -> None:
    first = sdk.chat.completions.create(model="llava", messages=about(RED, BLUE, text="Once more?"), **GREEDY)
    again = sdk.chat.completions.create(model="llava", messages=about(RED, BLUE, text="Once more?"), **GREEDY)
    assert again.choices[0].message.content == first.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens > 16


def test_chats_and_pictures_of_one_model_are_refused_where_it_cannot_make_them(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(model="llava", prompt="a fox")
    assert caught.value.param == "model"
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="llava:image", messages=about(text="a fox"))
    assert caught.value.param == "mode"


def test_a_picture_is_painted_by_images_generations(sdk: openai.OpenAI) -> None:
    ask = {"model": "janus", "prompt": "a red fox", "extra_body": {"seed": 3, "guidance_scale": 4}}
    made = sdk.images.generate(n=2, size="8x8", **ask)
    pictures = [Image.open(io.BytesIO(base64.b64decode(one.b64_json))) for one in made.data]
    assert [picture.size for picture in pictures] == [(8, 8), (8, 8)]
    assert pictures[0].tobytes() != pictures[1].tobytes()
    again = sdk.images.generate(**ask)
    assert again.data[0].b64_json == made.data[0].b64_json
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.images.generate(size="1024x1024", **ask)
    assert caught.value.param == "size"


def test_a_painting_is_shown_while_it_grows(sdk: openai.OpenAI) -> None:
    events = list(sdk.images.generate(model="janus", prompt="a red fox", stream=True, partial_images=2))
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]


@pytest.mark.parametrize("by", ["suffix", "field"])
def test_a_chat_in_the_mode_image_is_answered_with_a_picture(sdk: openai.OpenAI, by: str) -> None:
    name, body = ("janus:image", {}) if by == "suffix" else ("janus", {"mode": "image"})
    answer = sdk.chat.completions.create(model=name, messages=about(text="a red fox"), seed=3, extra_body=body)
    (image,) = answer.choices[0].message.images
    data = base64.b64decode(image["image_url"]["url"].partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (8, 8)
