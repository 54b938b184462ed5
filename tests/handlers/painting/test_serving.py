"""A real pipeline behind `/v1/videos`: what comes out of the file is what the library made."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from litestar.testing import TestClient
from PIL import Image

from handlers import types as t
from openai_compat.app import create_gateway
from openai_compat.config import Config, Model, Server, Storage

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # torch's, of numpy's interface
PATIENCE = 60.0  # seconds after which a test gives up, never what it expects
BRIGHTNESS = (0.2126, 0.7152, 0.0722)  # of red, green and blue, by BT.709
ORDER = {"model": "ltx", "prompt": "a red ball", "size": "32x32", "frames": 9, "fps": 8, "steps": 3, "seed": 11}


@pytest.fixture(scope="module")
def client(folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Any]]:
    models = {
        name: Model(source=str(folder_of(name)), device="cpu", threads=1, memory="1GiB") for name in ("ltx", "stable_video")
    }
    kept = Storage(dir=str(tmp_path_factory.mktemp("kept")))
    config = Config(server=Server(inline=True, shutdown_grace=0.0), storage=kept, models=models)
    with TestClient(create_gateway(config), base_url="http://127.0.0.1:8000") as client:
        yield client


def finished(client: TestClient[Any], id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while (video := client.get(f"/v1/videos/{id}").json())["status"] in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(video)


def frames_of(client: TestClient[Any], id: str) -> np.ndarray:
    with av.open(io.BytesIO(client.get(f"/v1/videos/{id}/content").content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def test_the_file_holds_the_frames_that_the_library_makes(client, loader, folder_of, collector) -> None:
    video = finished(client, client.post("/v1/videos", json=ORDER).json()["id"])
    assert (video["status"], video["size"], video["seconds"]) == ("completed", "32x32", "1.125")
    ctx = collector()
    request = t.VideoRequest(prompt="a red ball", width=32, height=32, frames=9, rate=8, steps=3, seed=11)
    loader(folder_of("ltx")).generate_video(request, ctx)
    made = [delta.picture for delta in ctx.deltas if isinstance(delta, t.FrameDelta)]
    expected = np.stack([np.frombuffer(frame.pixels, np.uint8).reshape(32, 32, 3) for frame in made]).astype(int)
    found = frames_of(client, video["id"])
    assert found.shape == expected.shape
    # A video keeps the brightness of each pixel, and one colour for each four of them: of noise only the first stays.
    assert np.abs(found @ BRIGHTNESS - expected @ BRIGHTNESS).mean() < 4


def test_a_seed_makes_the_same_video_and_another_one_another(client) -> None:
    videos = [finished(client, client.post("/v1/videos", json={**ORDER, "seed": seed}).json()["id"]) for seed in (1, 1, 2)]
    first, same, other = (client.get(f"/v1/videos/{video['id']}/content").content for video in videos)
    assert first == same != other


def test_a_video_begins_with_the_picture_of_a_form(client) -> None:
    target = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 40, 40)).save(target, "PNG")
    fields = {"model": "stable_video", "prompt": "it rolls", "size": "32x32", "frames": "3", "steps": "2"}
    files = {"input_reference": ("ball.png", target.getvalue(), "image/png")}
    video = finished(client, client.post("/v1/videos", data=fields, files=files).json()["id"])
    assert video["error"] is None
    assert frames_of(client, video["id"]).shape == (3, 32, 32, 3)


@pytest.mark.parametrize(
    ("fields", "param"), [({"size": "30x32"}, "size"), ({"seconds": "99", "frames": None}, "seconds"), ({"seed": -1}, "seed")]
)
def test_what_only_the_model_knows_fails_the_video_by_its_field(client, fields: dict[str, Any], param: str) -> None:
    video = finished(client, client.post("/v1/videos", json={**ORDER, **fields}).json()["id"])
    assert (video["status"], video["error"]["param"]) == ("failed", param)


def test_a_model_that_needs_a_picture_says_so(client) -> None:
    order = {**ORDER, "model": "stable_video"}
    video = finished(client, client.post("/v1/videos", json=order).json()["id"])
    assert (video["status"], video["error"]["param"]) == ("failed", "input_reference")
