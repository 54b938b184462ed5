"""Chats that are answered with pictures."""

from __future__ import annotations

import base64
import io
import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from PIL import Image

from handlers import types as t
from openai_compat.protocol import RelayFacts

PATH = "/v1/chat/completions"


def data_url(color: tuple[int, int, int]) -> str:
    file = io.BytesIO()
    Image.new("RGB", (2, 1), color).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def user(text: str | None, *colors: tuple[int, int, int]) -> list[dict]:
    texts = [] if text is None else [{"type": "text", "text": text}]
    return [{"role": "user", "content": texts + [{"type": "image_url", "image_url": data_url(color)} for color in colors]}]


def opened(image: dict) -> Image.Image:
    assert image["type"] == "image_url"
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def painter_only(worker, *verbs: str) -> None:
    """The worker's model can do these verbs and no others."""
    worker.runner.__dict__["capabilities"] = frozenset(verbs)


def test_mode_image_answers_a_chat_with_a_picture(serve) -> None:
    async def scenario(worker):
        answer = await worker.post(PATH, messages=user("a cat"), mode="image", seed=5)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        ChatCompletion.model_validate(body, strict=True)
        (choice,) = body["choices"]
        assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "")
        assert (body["model"], body["usage"]["prompt_tokens"]) == ("asked/for:this", 2)
        (image,) = choice["message"]["images"]
        assert opened(image).format == "PNG"
        assert worker.handler.seen == [t.ImageRequest(prompt="a cat", seed=5, mode="image")]

    serve(scenario)


def test_the_mode_may_be_in_the_model_s_name(serve) -> None:
    async def scenario(worker):
        facts = RelayFacts(request_id="r", model="echo", public_model="echo:image", mode="image")
        worker.headers = facts.to_headers()
        body = (await worker.post(PATH, messages=user("a cat"))).json()
        assert body["choices"][0]["message"]["images"]
        text = (await worker.post(PATH, messages=user("a cat"), mode="chat")).json()
        assert text["choices"][0]["message"]["content"]

    serve(scenario)


def test_modalities_ask_for_a_picture_as_other_servers_clients_do(serve) -> None:
    async def scenario(worker):
        body = (await worker.post(PATH, messages=user("a cat"), modalities=["image", "text"])).json()
        assert body["choices"][0]["message"]["images"]
        text = (await worker.post(PATH, messages=user("a cat"), modalities=["text"])).json()
        assert text["choices"][0]["message"]["content"]

    serve(scenario)


def test_a_model_that_only_paints_needs_no_mode(serve) -> None:
    async def scenario(worker):
        painter_only(worker, "generate_image")
        body = (await worker.post(PATH, messages=user("a cat"))).json()
        assert opened(body["choices"][0]["message"]["images"][0]).format == "PNG"
        edited = (await worker.post(PATH, messages=user("bluer", (9, 9, 9)))).json()
        assert edited["choices"][0]["message"]["images"]
        assert [request.task for request in worker.handler.seen] == ["generate", "edit"]

    serve(scenario)


def test_a_model_that_reads_and_paints_answers_with_text_unless_it_is_told_otherwise(serve) -> None:
    async def scenario(worker):
        for messages in (user("a cat"), user("a cat", (1, 2, 3))):
            body = (await worker.post(PATH, messages=messages)).json()
            assert "images" not in body["choices"][0]["message"]
            assert body["choices"][0]["message"]["content"].startswith("a cat")

    serve(scenario)


def test_the_last_user_message_is_painted_and_its_pictures_are_edited(serve) -> None:
    async def scenario(worker):
        messages = [
            {"role": "system", "content": "Be kind."},
            *user("a dog", (1, 1, 1)),
            {"role": "assistant", "content": "Here."},
            *user(" make it green ", (2, 2, 2), (3, 3, 3)),
        ]
        await worker.post(PATH, messages=messages, mode="image", n=2)
        (seen,) = worker.handler.seen
        assert (seen.prompt, seen.task, seen.n) == ("make it green", "edit", 2)
        assert [picture.pixels[0] for picture in seen.images] == [2, 3]

    serve(scenario)


def test_a_picture_without_a_text_is_varied(serve) -> None:
    async def scenario(worker):
        await worker.post(PATH, messages=user(None, (2, 2, 2)), mode="image")
        assert (worker.handler.seen[0].task, worker.handler.seen[0].prompt) == ("vary", "")

    serve(scenario)


def test_each_choice_has_a_picture(serve) -> None:
    async def scenario(worker):
        body = (await worker.post(PATH, messages=user("a cat"), mode="image", n=3)).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert all(len(choice["message"]["images"]) == 1 for choice in body["choices"])

    serve(scenario)


def test_a_stream_has_one_delta_with_the_picture(serve) -> None:
    async def scenario(worker):
        options = {"include_usage": True}
        chunks = await worker.events(PATH, messages=user("a cat"), mode="image", n=2, stream_options=options)
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk, strict=True)
        *pieces, usage = chunks
        assert (usage["choices"], usage["usage"]["prompt_tokens"]) == ([], 2)
        assert {piece["usage"] for piece in pieces} == {None}
        assert len({(piece["id"], piece["created"], piece["model"]) for piece in pieces}) == 1
        for index in (0, 1):
            first, picture, last = (piece["choices"][0] for piece in pieces if piece["choices"][0]["index"] == index)
            assert first["delta"] == {"role": "assistant", "content": ""}
            assert opened(picture["delta"]["images"][0]).format == "PNG"
            assert (last["delta"], last["finish_reason"]) == ({}, "stop")

    serve(scenario)


def test_progress_goes_before_the_picture_as_a_comment(serve) -> None:
    async def scenario(worker):
        def slow(request, ctx):
            ctx.emit(t.ProgressDelta(done=1, total=2))
            return t.PictureResult(pictures=(t.Picture(width=1, height=1, pixels=b"abc"),))

        worker.handler.generate_image = slow
        text = (await worker.post(PATH, messages=user("a cat"), mode="image", stream=True)).text
        assert text.startswith(": progress 1/2\n\ndata: ")
        assert "usage" not in json.loads(text.split("\n\n")[1].removeprefix("data: "))

    serve(scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"guided_regex": "a"}, "guided_regex"),
        ({"guided_choice": ["a", "b"]}, "guided_choice"),
        ({"guided_json": {"type": "object"}}, "guided_json"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"stop": "."}, "stop"),
        ({"messages": user("   ")}, "messages"),
        ({"messages": [{"role": "system", "content": "a cat"}]}, "messages"),
        ({"messages": user("x" * 32_001)}, "messages"),
        ({"mode_options": {"a": "b"}}, "mode_options.a"),
    ],
)
def test_what_a_picture_cannot_answer_is_refused_by_name(serve, stream, fields, param) -> None:
    async def scenario(worker):
        answer = await worker.post(PATH, stream=stream, **{"messages": user("a cat"), "mode": "image", **fields})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    serve(scenario)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.5}, {"max_tokens": 10}, {"top_p": 0.5}, {"user": "me"}, {"response_format": {"type": "text"}},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
    ],
)  # fmt: skip
def test_what_means_nothing_to_a_picture_changes_nothing(serve, fields) -> None:
    async def scenario(worker):
        assert (await worker.post(PATH, messages=user("a cat"), mode="image", **fields)).status_code == 200
        assert worker.handler.seen == [t.ImageRequest(prompt="a cat", mode="image")]

    serve(scenario)


def test_a_recording_cannot_be_painted(serve, silence) -> None:
    async def scenario(worker):
        part = {"type": "input_audio", "input_audio": {"data": silence, "format": "wav"}}
        answer = await worker.post(PATH, messages=[{"role": "user", "content": [part]}], mode="image")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")
        heard = await worker.post(PATH, messages=[{"role": "user", "content": [part]}])
        assert heard.status_code == 200, heard.text
        assert worker.handler.seen[-1].messages[0].parts[0].sound.rate == worker.handler.audio_rate

    serve(scenario)


@pytest.fixture
def silence() -> str:
    import wave

    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(1600))
    return base64.b64encode(file.getvalue()).decode()
