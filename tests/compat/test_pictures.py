"""Pictures as clients ask for them and send them: the openai packages and plain HTTP, against the echo, which paints."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

CHAT = "/v1/chat/completions"
EDITS = "/v1/images/edits"
EMBEDDINGS = "/v1/embeddings"


def png(size: tuple[int, int] = (8, 8), color: Any = (200, 30, 10), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def opened(b64: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64," + base64.b64encode(data).decode()


def claims(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


# ---------------------------------------------------------------- making them


def test_a_picture_is_made_of_a_prompt(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="echo", prompt="a red circle", n=2, size="64x32", output_format="webp")
    pictures = [opened(item.b64_json or "") for item in answer.data or ()]
    assert [(picture.format, picture.size) for picture in pictures] == [("WEBP", (64, 32))] * 2
    assert (answer.size, answer.output_format, answer.background) == ("64x32", "webp", "opaque")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_without_a_model_the_first_that_can_paint_serves(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a red circle", size="16x16")
    assert opened((answer.data or [])[0].b64_json or "").size == (16, 16)


def test_partial_pictures_are_streamed(client: openai.OpenAI) -> None:
    stream = client.images.generate(model="echo", prompt="a cat", size="16x16", stream=True, partial_images=2)
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert all(opened(event.b64_json).size == (16, 16) for event in events)


def test_a_link_leads_to_the_picture(client: openai.OpenAI, http: httpx2.Client) -> None:
    answer = client.images.generate(model="echo", prompt="a cat", size="16x16", response_format="url")
    (item,) = answer.data or []
    assert item.b64_json is None
    found = http.get(item.url or "")
    assert found.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(found.content)).size == (16, 16)


def test_a_picture_is_edited_with_a_mask(client: openai.OpenAI) -> None:
    mask = png((8, 8), (0, 0, 0, 0), "RGBA")
    answer = client.images.edit(model="echo", image=png(), mask=mask, prompt="a cat", size="16x16")
    assert opened((answer.data or [])[0].b64_json or "").size == (16, 16)
    several = [("a.png", png()), ("b.png", png())]
    stream = client.images.edit(model="echo", image=several, prompt="a cat", stream=True, partial_images=1)
    assert [event.type for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_picture_is_varied(client: openai.OpenAI) -> None:
    with pytest.warns(DeprecationWarning, match="deprecated"):
        answer = client.images.create_variation(model="echo", image=png(), n=2, size="256x256")
    assert [opened(item.b64_json or "").size for item in answer.data or ()] == [(256, 256)] * 2


def test_a_mask_of_another_size_is_a_bad_request_that_names_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model="echo", image=png(), mask=png((4, 4), (0, 0, 0, 0), "RGBA"), prompt="a cat")
    assert caught.value.param == "mask"


def test_what_cannot_paint_is_refused(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=model, prompt="a cat")
    assert (caught.value.param, caught.value.code) == ("model", "unsupported_capability")


@pytest.mark.parametrize("name", ["echo", "echo:image"])
def test_a_chat_is_answered_with_a_picture(client: openai.OpenAI, name: str) -> None:
    mode = {"mode": "image"} if name == "echo" else {}
    messages: Any = [{"role": "user", "content": "a cat"}]
    answer = client.chat.completions.create(model=name, messages=messages, extra_body=mode)
    (image,) = answer.choices[0].message.model_extra["images"]  # type: ignore[index]
    assert answer.choices[0].message.content == ""
    whole = image["image_url"]["url"]
    assert opened(whole.partition(",")[2]).format == "PNG"
    chunks = list(client.chat.completions.create(model=name, messages=messages, extra_body=mode, stream=True))
    found = [image for chunk in chunks for image in (chunk.choices[0].delta.model_extra or {}).get("images", ())]
    assert [image["image_url"]["url"] for image in found] == [whole]


def test_a_mode_that_a_model_lacks_is_named(client: openai.OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "a cat"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=messages, extra_body={"mode": "image"})
    assert caught.value.param == "mode"


def test_modalities_that_a_model_lacks_are_refused(client: openai.OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "a cat"}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=messages, extra_body={"modalities": ["image", "text"]})
    assert (caught.value.param, caught.value.code) == ("model", "unsupported_capability")


def test_the_node_package_makes_edits_and_streams(node: Callable[..., dict[str, Any]]) -> None:
    seen = node("pictures", "echo")
    assert [opened(picture).size for picture in (*seen["made"], seen["edited"])] == [(64, 32)] * 3
    assert seen["types"] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert (seen["bad"]["name"], seen["bad"]["param"]) == ("BadRequestError", "size")


# ---------------------------------------------------------------- sending them


def asked(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "echo", "messages": [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, *parts]}]}


def test_a_picture_is_seen_whatever_its_url_calls_it(http: httpx2.Client) -> None:
    answers = [
        http.post(CHAT, json=asked(url(png(), kind))).json()["choices"][0]["message"]["content"]
        for kind in ("image/png", "text/html", "application/octet-stream;name=x", "", "video/mp4")
    ]
    assert len(set(answers)) == 1
    assert answers[0].startswith("what is it? picture-")


def whole_budget() -> list[str]:
    """Three pictures with more pixels together than one request may have."""
    return [url(png((3_000, 3_000), color)) for color in ("red", "green", "blue")]


BAD: dict[str, Callable[[], tuple[list[str], str]]] = {
    "remote": lambda: (["https://example.org/a.png"], "messages[0].content[1].image_url"),
    "file": lambda: (["file:///etc/passwd"], "messages[0].content[1].image_url"),
    "empty": lambda: (["data:image/png;base64,"], "messages[0].content[1].image_url"),
    "no base64": lambda: (["data:image/png;base64,!!"], "messages[0].content[1].image_url"),
    "svg": lambda: ([url(b"<svg/>", "image/svg+xml")], "messages[0].content[1].image_url"),
    "film": lambda: ([url(b"\0\0\0\x18ftypisom" + bytes(40), "video/mp4")], "messages[0].content[1].image_url"),
    "the second is cut off": lambda: ([url(png()), url(png()[:40])], "messages[0].content[2].image_url"),
    "huge": lambda: ([url(claims(100_000, 100_000))], "messages[0].content[1].image_url"),
    "seventeen": lambda: ([url(png())] * 17, "messages"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_in_a_chat_is_a_400_that_names_it(http: httpx2.Client, name: str) -> None:
    urls, param = BAD[name]()
    answer = http.post(CHAT, json=asked(*urls))
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    for leak in ("PIL", "0x", "Traceback", "/etc", "Error("):
        assert leak not in error["message"]


def test_more_pixels_than_a_request_may_have_are_a_400(http: httpx2.Client) -> None:
    answer = http.post(CHAT, json=asked(*whole_budget()))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_image")
    assert "64 MiB" in error["message"]


def test_a_bad_picture_to_embed_or_to_edit_is_a_400_that_names_it(http: httpx2.Client) -> None:
    answer = http.post(EMBEDDINGS, json={"model": "echo", "input": [{"image_url": url(png())}, {"image_url": url(png()[:40])}]})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input[1].image_url")
    for files, param in (
        ([("image", ("a.png", png()[:40]))], "image"),
        ([("image", ("a.png", b"MZ\0\0"))], "image"),
        ([("image[]", ("a.png", png())), ("image[]", ("b.png", claims(50_000, 50_000)))], "image[1]"),
        ([("image", ("a.png", png()))] * 17, "image"),
    ):
        answer = http.post(EDITS, data={"model": "echo", "prompt": "P"}, files=files)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_the_server_is_well_after_all_of_them(http: httpx2.Client) -> None:
    answer = http.post(CHAT, content=json.dumps(asked(url(png()))))
    assert answer.status_code == 200
