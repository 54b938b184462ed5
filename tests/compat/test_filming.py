"""A video by a real pipeline of diffusers, ordered, waited for and fetched over HTTP; and a picture by another one."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx2
import pytest
from PIL import Image

PATIENCE = 120.0  # seconds after which a test gives up, never what it expects
TINY = Path(__file__).parents[1] / "handlers" / "painting" / "conftest.py"


@pytest.fixture(scope="module")
def save_tiny() -> Callable[[str, Path], Path]:
    """What saves a family's tiny pipeline, with the tests that need most of them."""
    spec = importlib.util.spec_from_file_location("tiny_pipelines", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    save: Callable[[str, Path], Path] = module.save
    return save


@pytest.fixture(scope="module")
def origin(save_tiny: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("filming")
    models = {name: save_tiny(name, folder / name) for name in ("ltx", "stable_diffusion")}
    config = folder / "config.toml"
    config.write_text(
        f"[storage]\ndir = {json.dumps(str(folder / 'kept'))}\n"
        + "".join(f"[models.{name}]\nsource = {json.dumps(str(path))}\nthreads = 1\n" for name, path in models.items())
    )
    running = type(server)(config, folder)
    yield running.base_url
    assert running.stop() == 0, running.log.read_text()


def made(origin: str, **order: Any) -> dict[str, Any]:
    video: dict[str, Any] = httpx2.post(f"{origin}/videos", json=order, timeout=PATIENCE).raise_for_status().json()
    deadline = time.monotonic() + PATIENCE
    while video["status"] not in ("completed", "failed") and time.monotonic() < deadline:
        time.sleep(0.1)
        video = httpx2.get(f"{origin}/videos/{video['id']}", timeout=PATIENCE).raise_for_status().json()
    return video


def test_a_pipeline_s_video_has_the_frames_rate_and_size_of_the_order(origin: str) -> None:
    order = {"model": "ltx", "prompt": "a red fox", "seconds": "1", "fps": 10, "size": "64x32", "seed": 3, "steps": 2}
    video = made(origin, **order)
    assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)
    content = httpx2.get(f"{origin}/videos/{video['id']}/content", timeout=PATIENCE).raise_for_status().content
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        read = (sum(1 for _ in container.decode(stream)), float(stream.average_rate or 0), stream.width, stream.height)
    assert read == (9, 10.0, 64, 32)


def test_what_the_pipeline_cannot_make_fails_by_name(origin: str) -> None:
    video = made(origin, model="ltx", prompt="a red fox", seconds="1", size="4000x32")
    assert video["status"] == "failed"
    assert video["error"]["param"] == "size"


def test_a_pipeline_s_picture_comes_in_the_size_of_the_request(origin: str) -> None:
    order = {"model": "stable_diffusion", "prompt": "a red fox", "size": "48x32", "steps": 2}
    answer = httpx2.post(f"{origin}/images/generations", json=order, timeout=PATIENCE).raise_for_status().json()
    with Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))) as picture:
        assert picture.size == (48, 32)
