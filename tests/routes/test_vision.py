"""The routes of pictures that are looked at, around the echo handler and a tiny model of each task."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from litestar.testing import AsyncTestClient
from PIL import Image

from handlers import types as t
from handlers.vision import VisionHandler
from openai_compat.app import create_worker
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import RelayFacts
from openai_compat.worker.runner import Runner

CLASSIFY, DETECT, SEGMENT, DEPTH = (f"/v1/vision/{name}" for name in ("classify", "detect", "segment", "depth"))


def png(width: int = 97, height: int = 61) -> bytes:
    """A red half beside a blue one."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    image.paste((30, 30, 200), (width // 2, 0, width, height))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def as_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def loaded(tiny_seer: Callable[[str], Path]) -> Callable[[str], VisionHandler]:
    @cache
    def load(name: str) -> VisionHandler:
        handler = VisionHandler(t.ModelSpec(id="tiny", path=str(tiny_seer(name)), kind="vision", device="cpu", threads=1))
        handler.load_model(lambda stage, done=0, total=0: None)
        return handler

    return load


@pytest.fixture
def ask(loaded: Callable[[str], VisionHandler]) -> Callable[..., Any]:
    """``ask(name, path, …)`` posts to a worker of a tiny model: fields as JSON, or with ``files`` as a form."""

    async def post(name: str, path: str, fields: dict[str, Any], files: Any) -> Any:
        runner = Runner(loaded(name))
        headers = RelayFacts(request_id="r-1", model="tiny", public_model="my-eyes").to_headers()
        body = {"data" if files else "json": {"model": "my-eyes", **fields}}
        try:
            async with AsyncTestClient(create_worker(runner, model_id="tiny", timing=StreamTiming())) as client:
                return await client.post(path, headers=headers, files=files, **body)
        finally:
            await runner.close(0.0)

    def run(name: str, path: str, *, files: Any = None, **fields: Any) -> Any:
        return asyncio.run(post(name, path, fields, files))

    return run


@pytest.mark.parametrize("form", ["url", "base64", "object", "part", "image", "file"])
def test_a_picture_may_come_in_every_way(serve, form: str) -> None:
    async def scenario(worker):
        url = as_url(png())
        inside = {
            "url": url,
            "base64": url.partition(",")[2],
            "object": {"image_url": {"url": url}},
            "part": {"type": "image_url", "image_url": url},
        }
        if form in inside:
            answer = await worker.post(DETECT, image=inside[form], labels=["cat", "dog"], threshold=0.2, top_k=1)
        else:
            fields = {"model": "x", "labels[]": ["cat", "dog"], "threshold": "0.2", "top_k": "1"}
            answer = await worker.client.post(DETECT, data=fields, files={form: ("blob", png())}, headers=worker.headers)
        assert answer.status_code == 200, answer.text
        (seen,) = worker.handler.seen
        assert (seen.task, seen.labels, seen.threshold, seen.top_k) == ("detect", ("cat", "dog"), 0.2, 1)
        assert (seen.picture.width, seen.picture.height, seen.picture.channels) == (97, 61, 3)
        assert seen.picture.pixels[:3] == bytes((200, 30, 30))
        assert answer.json()["labels"][0]["box"] == {"left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0}
        assert answer.json()["model"] == "asked/for:this"

    serve(scenario)


def test_a_classification_has_labels_and_scores(ask) -> None:
    answer = ask("vit", CLASSIFY, image=as_url(png()), top_k=2)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert {key: body[key] for key in ("object", "model", "width", "height")} == {
        "object": "vision.classification",
        "model": "my-eyes",
        "width": 97,
        "height": 61,
    }
    assert [sorted(label) for label in body["labels"]] == [["label", "score"]] * 2


def test_a_detection_has_boxes(ask) -> None:
    body = ask("detr", DETECT, image=as_url(png()), threshold=0.0).json()
    assert body["object"] == "vision.detection"
    assert [sorted(label) for label in body["labels"]] == [["box", "label", "score"]] * 6


def test_masks_are_pngs_or_run_lengths(ask) -> None:
    drawn = ask("segformer", SEGMENT, image=as_url(png())).json()["labels"]
    coded = ask("segformer", SEGMENT, image=as_url(png()), mask_format="rle").json()["labels"]
    assert drawn
    for one, other in zip(drawn, coded, strict=True):
        mask = Image.open(io.BytesIO(base64.b64decode(one["mask"])))
        assert (mask.mode, mask.size) == ("L", (97, 61))
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
        assert other["mask"]["size"] == [61, 97]
        left, top, right, bottom = mask.getbbox()
        assert one["box"] == {"left": left, "top": top, "right": right, "bottom": bottom} == other["box"]


def test_depths_are_a_png_or_numbers(ask) -> None:
    drawn = ask("glpn", DEPTH, image=as_url(png())).json()
    exact = ask("glpn", DEPTH, image=as_url(png()), depth_format="float32").json()
    assert (drawn["object"], drawn["metric"], drawn["width"], drawn["height"]) == ("vision.depth", True, 97, 61)
    numbers = np.frombuffer(base64.b64decode(exact["depth"]["data"]), dtype="<f4").reshape(61, 97)
    low, high = drawn["depth"]["min"], drawn["depth"]["max"]
    assert (low, high) == pytest.approx((numbers.min(), numbers.max()))
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn["depth"]["data"]))))
    assert np.abs(picture / 65535 * (high - low) + low - numbers).max() <= (high - low) / 65535


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (DETECT, {}, "image"),
        (DETECT, {"image": "https://example.com/cat.png"}, "image"),
        (DETECT, {"image": {"image_url": "file:///etc/passwd"}}, "image.image_url"),
        (DETECT, {"image": "AAAA"}, "image"),
        (DETECT, {"image": "not base64!"}, "image"),
        (DETECT, {"image": as_url(png()), "threshold": 1.5}, "threshold"),
        (DETECT, {"image": as_url(png()), "top_k": 0}, "top_k"),
        (DETECT, {"image": as_url(png()), "labels": ["a", "a"]}, "labels"),
        (DETECT, {"image": as_url(png()), "labels": ["x"] * 1001}, "labels"),
        (CLASSIFY, {"image": as_url(png()), "labels": [""]}, "labels[0]"),
        (SEGMENT, {"image": as_url(png()), "mask_format": "bmp"}, "mask_format"),
        (DEPTH, {"image": as_url(png()), "depth_format": "exr"}, "depth_format"),
        (DEPTH, {"image": as_url(png()[:60])}, "image"),
        (DEPTH, {"image": as_url(png()), "mode": "singing"}, "mode"),
    ],
)
def test_what_cannot_be_is_a_400_that_names_it(serve, path: str, fields: dict[str, Any], param: str) -> None:
    async def scenario(worker):
        answer = await worker.post(path, **fields)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == param

    serve(scenario)


def test_a_form_without_a_picture_is_refused(serve) -> None:
    async def scenario(worker):
        for files, param in [({"other": ("a", png())}, "image"), ({"image": ("a", b"")}, "image")]:
            answer = await worker.client.post(DETECT, data={"model": "x"}, files=files, headers=worker.headers)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    serve(scenario)


def test_a_model_of_another_task_is_refused_by_name(ask) -> None:
    answer = ask("vit", SEGMENT, image=as_url(png()))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    answer = ask("vit", CLASSIFY, image=as_url(png()), labels=["cat"])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "labels")
    answer = ask("vit", CLASSIFY, image=as_url(png()), mode="depth")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "mode")


def test_boxes_and_masks_fit_a_picture_that_lies_on_its_side(ask) -> None:
    """A camera writes the picture as it lies, and beside it how it is held."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(png())).save(file, "JPEG", exif=exif.tobytes())
    body = ask("segformer", SEGMENT, image=as_url(file.getvalue()), mask_format="rle").json()
    assert (body["width"], body["height"]) == (61, 97)
    assert body["labels"][0]["mask"]["size"] == [97, 61]


def test_a_chat_says_the_same_as_the_endpoint(ask) -> None:
    content = [{"type": "image_url", "image_url": {"url": as_url(png())}}]
    chat = ask("segformer", "/v1/chat/completions", messages=[{"role": "user", "content": content}]).json()
    said = json.loads(chat["choices"][0]["message"]["content"])
    found = ask("segformer", SEGMENT, image=as_url(png()), mask_format="rle").json()
    assert said == found
    assert chat["choices"][0]["finish_reason"] == "stop"


def test_the_picture_of_a_form_comes_once(serve) -> None:
    async def scenario(worker):
        picture = ("a.png", png())
        for files, fields in (
            ({"image": picture}, {"image": as_url(png())}),
            ({"file": picture}, {"image": as_url(png())}),
            ({"image": picture, "file": picture}, {}),
        ):
            answer = await worker.client.post(DETECT, data={"model": "m", **fields}, files=files, headers=worker.headers)
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")

    serve(scenario)
