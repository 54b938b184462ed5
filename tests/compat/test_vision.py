"""The trained models of shapes behind the real server, on pictures that the test draws."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image, ImageDraw

COLORS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 80, 220), "yellow": (240, 220, 50)}
SCENES = [("circle", "red", "blue"), ("square", "green", "yellow"), ("triangle", "blue", "red"), ("circle", "yellow", "green")]
SIDE = 128
Box = tuple[float, float, float, float]


def drawn(kind: str, color: str, ground: str, box: Box, size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """One shape that fills a box, with soft edges, as a PNG."""
    image = Image.new("RGB", (size[0] * 4, size[1] * 4), COLORS[ground])
    pen, (left, top, right, bottom) = ImageDraw.Draw(image), [edge * 4 for edge in box]
    if kind == "circle":
        pen.ellipse((left, top, right, bottom), fill=COLORS[color])
    elif kind == "square":
        pen.rectangle((left, top, right, bottom), fill=COLORS[color])
    else:
        pen.polygon([((left + right) / 2, top), (right, bottom), (left, bottom)], fill=COLORS[color])
    file = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def in_the_middle(kind: str, color: str, ground: str) -> bytes:
    return drawn(kind, color, ground, (28, 30, 100, 98))


def overlap(one: dict[str, float], other: Box) -> float:
    """Intersection over union."""
    width = min(one["right"], other[2]) - max(one["left"], other[0])
    height = min(one["bottom"], other[3]) - max(one["top"], other[1])
    shared = max(0.0, width) * max(0.0, height)
    own = (one["right"] - one["left"]) * (one["bottom"] - one["top"])
    return shared / (own + (other[2] - other[0]) * (other[3] - other[1]) - shared)


@pytest.fixture(scope="module")
def seeing(bundled_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Any]:
    config = tmp_path_factory.mktemp("seeing") / "config.toml"
    models = [f"[models.{name}]\nsource = {json.dumps(str(bundled_folder(name)))}\n" for name in MODELS]
    clip = MODELS.index("shapes-clip")
    models[clip] += 'kind = "vision"\noptions = { label_template = "{}" }\n'
    config.write_text("".join(models))
    running = type(server)(config, config.parent)
    yield running
    assert running.stop() == 0, running.log.read_text()


MODELS = ("shapes-classifier", "shapes-detector", "shapes-segmenter", "shapes-clip")


@pytest.fixture
def eyes(seeing: Any) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=seeing.origin, timeout=120) as client:
        yield client


def look(eyes: httpx2.Client, task: str, picture: bytes, **fields: Any) -> Any:
    model = {"classify": "shapes-classifier", "detect": "shapes-detector", "segment": "shapes-segmenter"}[task]
    answer = eyes.post(f"/v1/vision/{task}", files={"image": ("p.png", picture)}, data={"model": model, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("scene", SCENES, ids=" ".join)
def test_the_classifier_names_colour_and_shape(eyes: httpx2.Client, scene: tuple[str, str, str]) -> None:
    kind, color, _ = scene
    found = look(eyes, "classify", in_the_middle(*scene), top_k="3")
    assert (found["object"], found["model"], len(found["labels"])) == ("vision.classification", "shapes-classifier", 3)
    assert found["labels"][0]["label"] == f"{color} {kind}"


@pytest.mark.parametrize("scene", SCENES, ids=" ".join)
def test_the_detector_finds_the_shape_where_it_is(eyes: httpx2.Client, scene: tuple[str, str, str]) -> None:
    found = look(eyes, "detect", in_the_middle(*scene))
    best = found["labels"][0]
    assert best["label"] == scene[0]
    assert overlap(best["box"], (28, 30, 100, 98)) > 0.7


def test_boxes_are_in_pixels_of_a_large_wide_picture(eyes: httpx2.Client) -> None:
    box = (700.0, 300.0, 1300.0, 900.0)
    found = look(eyes, "detect", drawn("circle", "red", "blue", box, (1600, 1200)))
    assert (found["width"], found["height"]) == (1600, 1200)
    assert overlap(found["labels"][0]["box"], box) > 0.7


@pytest.mark.parametrize("scene", SCENES, ids=" ".join)
def test_the_segmenter_colours_the_shape(eyes: httpx2.Client, scene: tuple[str, str, str]) -> None:
    picture = in_the_middle(*scene)
    found = look(eyes, "segment", picture)
    labels = {label["label"]: label for label in found["labels"]}
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(labels[scene[0]]["mask"])))) > 0
    assert seen.shape == (SIDE, SIDE)
    shape = (np.asarray(Image.open(io.BytesIO(picture))) == COLORS[scene[1]]).all(-1)
    assert (shape & seen).sum() / (shape | seen).sum() > 0.75
    assert overlap(labels[scene[0]]["box"], (28, 30, 100, 98)) > 0.7


def test_clip_ranks_the_captions_of_the_request(eyes: httpx2.Client) -> None:
    captions = [f"a {color} {kind} on a {ground} background" for kind, color, ground in SCENES]
    for caption, scene in zip(captions, SCENES, strict=True):
        url = f"data:image/png;base64,{base64.b64encode(in_the_middle(*scene)).decode()}"
        asked = {"model": "shapes-clip", "image": url, "labels": captions}
        found = eyes.post("/v1/vision/classify", json=asked).json()
        assert found["labels"][0]["label"] == caption
        assert sum(label["score"] for label in found["labels"]) == pytest.approx(1.0, abs=1e-4)


def test_a_chat_with_a_picture_is_answered_in_json(seeing: Any, eyes: httpx2.Client) -> None:
    scene = SCENES[0]
    url = f"data:image/png;base64,{base64.b64encode(in_the_middle(*scene)).decode()}"
    content = [{"type": "text", "text": "What is there?"}, {"type": "image_url", "image_url": {"url": url}}]
    messages: Any = [{"role": "user", "content": content}]
    with openai.OpenAI(base_url=seeing.base_url, api_key="none", max_retries=0) as client:
        whole = client.chat.completions.create(model="shapes-detector", messages=messages)
        stream = list(client.chat.completions.create(model="shapes-detector:detect", messages=messages, stream=True))
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="shapes-detector:depth", messages=messages)
    text = whole.choices[0].message.content
    assert json.loads(text) == look(eyes, "detect", in_the_middle(*scene))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert streamed == text.replace('"shapes-detector"', '"shapes-detector:detect"')  # the name by which the client asked
    assert refused.value.param == "mode"


def test_every_answer_is_one_that_the_openapi_page_shows(eyes: httpx2.Client) -> None:
    page = eyes.get("/schema/openapi.json").json()
    for task in ("classify", "detect", "segment", "depth"):
        shown = page["paths"][f"/v1/vision/{task}"]["post"]
        assert set(shown["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert {"Findings", "DepthAnswer"} <= set(page["components"]["schemas"])
    assert eyes.get("/v1/models/shapes-segmenter").json()["modes"] == ["auto", "segment"]
