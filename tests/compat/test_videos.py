"""Videos as clients order them: the openai packages and plain HTTP, from a server that is stopped, killed and started again."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx2
import openai
import psutil
import pytest

PATIENCE = 60.0  # seconds after which a test gives up, never what it expects
SLOW = "[[delay=0.05]] sea"  # an echo waits so long before each frame
ORDER = {"model": "echo", "size": "64x48"}

# OpenAI is ending its own service, and its package says so of every method.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture
def start_videos(start_server: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Start the same server again and again: an echo, and the same folder for what it makes."""
    (tmp_path / "nothing").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(
        "[server]\nshutdown_grace = 0.5\n[workers]\nfork_server = false\nrestart_backoff = 0.2\n"
        f"[storage]\ndir = {json.dumps(str(tmp_path / 'kept'))}\n"
        f'[models.echo]\nsource = {json.dumps(str(tmp_path / "nothing"))}\nkind = "echo"\n[aliases]\nsora-2 = "echo"\n'
    )
    return lambda *flags: start_server(config, *flags)


@pytest.fixture
def videos(start_videos: Callable[..., Any]) -> Iterator[Any]:
    with openai.OpenAI(base_url=start_videos().base_url, api_key="none", max_retries=0) as client:
        yield client.videos


def order(origin: str, **body: Any) -> str:
    return str(httpx2.post(f"{origin}/v1/videos", json={**ORDER, "prompt": "sea", **body}).raise_for_status().json()["id"])


def until(origin: str, id: str, *statuses: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        video: dict[str, Any] = httpx2.get(f"{origin}/v1/videos/{id}").raise_for_status().json()
        if video["status"] in statuses:
            return video
        if video["status"] in ("completed", "failed"):
            break
        time.sleep(0.05)
    raise TimeoutError(f"it is {video}")


def read(data: bytes) -> tuple[int, float, int, int]:
    """Frames, their rate, width and height."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        return sum(1 for _ in container.decode(stream)), float(stream.average_rate or 0), stream.width, stream.height


def test_the_sdk_creates_polls_downloads_lists_remixes_and_deletes(videos: Any, tmp_path: Path) -> None:
    extra = {"size": "64x48", "fps": 8}
    video = videos.create_and_poll(prompt="sea", model="sora-2", seconds="4", extra_body=extra)
    assert (video.status, video.progress, video.seconds, video.model) == ("completed", 100, "4", "sora-2")
    videos.download_content(video.id).write_to_file(tmp_path / "a.mp4")
    assert read((tmp_path / "a.mp4").read_bytes()) == (32, 8.0, 64, 48)
    assert videos.download_content(video.id, variant="thumbnail").content[8:12] == b"WEBP"
    remix = videos.poll(videos.remix(video.id, prompt="sky").id)
    assert (remix.status, remix.remixed_from_video_id) == ("completed", video.id)
    assert [item.id for item in videos.list(limit=1)] == [remix.id, video.id]
    assert videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError):
        videos.retrieve(video.id)


def test_the_sdk_sends_a_picture_as_a_file(videos: Any, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48), (10, 200, 10)).save(tmp_path / "first.png")
    video = videos.create(prompt="sea", input_reference=tmp_path / "first.png", extra_body={"size": "64x48"})
    assert videos.poll(video.id, poll_interval_ms=50).status == "completed"
    with pytest.raises(openai.BadRequestError) as caught:  # the package sends an object only so
        videos.create(prompt="sea", extra_body={"input_reference": {"file_id": "file-1"}})
    assert caught.value.param == "input_reference.file_id"


def test_after_a_restart_each_video_is_where_it_should_be_and_inline_models_make_them_too(
    start_videos: Callable[..., Any],
) -> None:
    first = start_videos("--inline")
    done = order(first.origin, seconds="1", fps=6)
    until(first.origin, done, "completed")
    running = order(first.origin, prompt=SLOW, frames=1024)
    until(first.origin, running, "in_progress")
    waiting = order(first.origin, seconds=2, fps=5)
    assert first.stop() == 0
    second = start_videos("--inline")
    assert until(second.origin, running, "failed")["error"]["code"] == "server_restarted"
    until(second.origin, waiting, "completed")
    contents = [httpx2.get(f"{second.origin}/v1/videos/{id}/content").content for id in (done, waiting)]
    assert [read(content) for content in contents] == [(6, 6.0, 64, 48), (10, 5.0, 64, 48)]


def test_a_killed_server_s_videos_are_gone_on_with_too(start_videos: Callable[..., Any], tmp_path: Path) -> None:
    first = start_videos()
    running = order(first.origin, prompt=SLOW, frames=1024)
    until(first.origin, running, "in_progress")
    waiting = order(first.origin, frames=3, fps=3)
    first.process.kill()
    first.process.wait()
    first.stop = lambda: 0
    second = start_videos()
    assert until(second.origin, running, "failed")["error"]["code"] == "server_restarted"
    until(second.origin, waiting, "completed")
    assert read(httpx2.get(f"{second.origin}/v1/videos/{waiting}/content").content) == (3, 3.0, 64, 48)
    files = sorted(path.suffix for path in (tmp_path / "kept" / "media").iterdir())
    assert files == [".mp4", ".webp"]


def test_a_worker_that_dies_fails_its_video_and_the_next_is_made(start_videos: Callable[..., Any]) -> None:
    server = start_videos()
    id = order(server.origin, prompt=SLOW, frames=1024)
    while not until(server.origin, id, "in_progress")["progress"]:
        time.sleep(0.05)
    for process in psutil.Process(server.process.pid).children(recursive=True):
        if "openai_compat.worker" in " ".join(process.cmdline()):
            process.kill()
    assert until(server.origin, id, "failed")["error"]["code"] == "worker_died"
    assert until(server.origin, order(server.origin, frames=2), "completed")["progress"] == 100


def test_a_second_server_on_the_same_folder_refuses_to_start_and_says_why(
    start_videos: Callable[..., Any], tmp_path: Path
) -> None:
    start_videos()
    command = [Path(sys.executable).with_name("openai-compat"), "serve", "--config", tmp_path / "config.toml", "--port", "0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode not in (0, 3)
    assert "another server keeps its results" in second.stderr
    assert "Traceback" not in second.stderr


def test_node_orders_waits_fetches_and_deletes(node: Callable[..., dict[str, Any]]) -> None:
    seen = node("video", "echo")
    assert (seen["order"]["status"], seen["video"]["status"]) == ("queued", "completed")
    assert seen["type"] == "video/mp4"
    assert read(base64.b64decode(seen["file"])) == (6, 6.0, 64, 48)
    assert seen["ids"] == [seen["order"]["id"]]
    assert seen["bad"]["param"] == "size"
    assert seen["broken"]["param"] == "input_reference.image_url"
    assert seen["gone"] == {"id": seen["order"]["id"], "deleted": True, "object": "video.deleted"}


def test_a_second_server_hands_out_the_videos_of_the_first(start_videos: Any, start_server: Any, tmp_path: Path) -> None:
    first = start_videos()
    config = tmp_path / "second.toml"
    config.write_text(
        f"[storage]\ndir = {json.dumps(str(tmp_path / 'second'))}\n"
        f'[upstreams.first]\nbase_url = "{first.base_url}"\n[upstreams.first.models.far]\nname = "echo"\n'
    )
    with openai.OpenAI(base_url=start_server(config).base_url, api_key="none", max_retries=0) as client:
        video = client.videos.create_and_poll(prompt="sea", model="far", seconds="2", size="64x48", extra_body={"fps": 8})
        assert (video.status, video.model, video.seconds, video.size) == ("completed", "far", "2", "64x48")
        assert read(client.videos.download_content(video.id).content) == (16, 8.0, 64, 48)
        assert client.videos.download_content(video.id, variant="thumbnail").content[8:12] == b"WEBP"
        refused = client.videos.create_and_poll(prompt="[[fail_after=1]] sea", model="far", seconds="2")
        assert refused.status == "failed"
        there = httpx2.get(f"{first.base_url}/videos").json()["data"]
        assert len(there) == 2
        client.videos.delete(video.id)
        assert len(httpx2.get(f"{first.base_url}/videos").json()["data"]) == 1
