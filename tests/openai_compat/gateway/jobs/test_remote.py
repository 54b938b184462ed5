"""Videos of an upstream: the same objects as those of a local model, whatever the upstream does."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from openai_compat.config import Price, Upstream, UpstreamModel

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
FILE = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 2000


class Studio:
    """An upstream with videos. ``script`` holds the statuses that a video goes through, one for each look."""

    def __init__(self) -> None:
        self.script: list[Any] = ["queued", ("in_progress", 40), "completed"]
        self.broken: dict[str, list[int]] = {}
        self.orders: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.keys: set[str] = set()
        self.thumbnail = b"RIFF\x04\0\0\0WEBPdata"
        self.file = FILE
        self.kind = "video/mp4"
        studio = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.begin():
                    studio.orders.append(json.loads(body))
                    self.answer(200, studio.object("queued"))

            def do_GET(self) -> None:
                if not self.begin():
                    return
                url = urlsplit(self.path)
                if url.query == "variant=thumbnail":
                    self.answer(200, studio.thumbnail, "image/webp")
                elif url.path.endswith("/content"):
                    self.answer(200, studio.file, studio.kind)
                else:
                    status = studio.script.pop(0) if len(studio.script) > 1 else studio.script[0]
                    self.answer(200, studio.object(*(status if isinstance(status, tuple) else (status,))))

            def do_DELETE(self) -> None:
                if self.begin():
                    self.answer(200, {"id": "far_1", "object": "video.deleted", "deleted": True})

            def begin(self) -> bool:
                url = urlsplit(self.path)
                what = f"{self.command} {url.path}{'?' if url.query else ''}{url.query}"
                studio.seen.append(what)
                studio.keys.add(self.headers["authorization"])
                statuses = studio.broken.get(what, [])
                if statuses:
                    self.answer(statuses.pop(0), {"error": {"message": "not like this", "type": "x", "code": "odd"}})
                    return False
                return True

            def answer(self, status: int, body: Any, kind: str = "application/json") -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                if status == 429:
                    self.send_header("retry-after", "0")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.at = f"http://127.0.0.1:{self.server.server_port}"

    def object(self, status: str, progress: int = 0, **more: Any) -> dict[str, Any]:
        """An error is told where it failed."""
        error = {"code": "moderation", "message": f"refused by {self.at}/v1 at /srv/app/x.py"} if status == "failed" else None
        found = {"id": "far_1", "object": "video", "created_at": 1, "status": status, "model": "sora-x", "error": error}
        return {**found, "progress": progress, "seconds": "8", "size": "1280x720", **more}


@pytest.fixture
def studio() -> Iterator[Studio]:
    made = Studio()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai_compat.gateway.jobs.remote._PAUSE", 0.05)
    monkeypatch.setattr("openai_compat.gateway.jobs.provider._PAUSE", 0.01)


@pytest.fixture
def far(served, studio, monkeypatch) -> Callable[..., Any]:
    monkeypatch.setenv("STUDIO_KEY", "sk-studio-secret")

    def serve(**more: Any) -> Any:
        model = UpstreamModel(name="sora-x", **more.pop("model", {}))
        upstream = Upstream(base_url=f"{studio.at}/v1", api_key_env="STUDIO_KEY", models={"film": model}, retries=0)
        return served(upstreams={"studio": upstream}, **more)

    return serve


def test_a_video_is_ordered_there_and_kept_here(far, studio) -> None:
    with far() as client:
        ordered = client.order(model="film", size="640x480", seconds="4").json()
        assert (ordered["status"], ordered["model"], ordered["size"]) == ("queued", "film", "640x480")
        video = client.until(ordered["id"], "completed")
        assert (video["id"], video["model"], video["progress"]) == (ordered["id"], "film", 100)
        assert (video["seconds"], video["size"]) == ("8", "1280x720")
        content = client.get(f"/v1/videos/{video['id']}/content")
        assert (content.headers["content-type"], content.content) == ("video/mp4", FILE)
        thumbnail = client.get(f"/v1/videos/{video['id']}/content?variant=thumbnail")
        assert thumbnail.content == studio.thumbnail
        assert [item["id"] for item in client.get("/v1/videos").json()["data"]] == [video["id"]]
        assert client.made(model="echo")["status"] == "completed"
        remix = client.post(f"/v1/videos/{video['id']}/remix", json={"prompt": "sky"}).json()
        assert client.until(remix["id"], "completed")["remixed_from_video_id"] == video["id"]
    body, remixed = studio.orders
    assert remixed == {"model": "sora-x", "prompt": "sky", "size": "1280x720", "seconds": "8"}
    assert body == {"model": "sora-x", "prompt": "sea", "size": "640x480", "seconds": "4"}
    assert studio.keys == {"Bearer sk-studio-secret"}


def test_progress_is_told(far, studio) -> None:
    studio.script = [("in_progress", 40)]
    with far() as client:
        id = client.order(model="film").json()["id"]
        deadline = time.monotonic() + 30
        while client.get(f"/v1/videos/{id}").json()["progress"] != 40:
            assert time.monotonic() < deadline
        studio.script = ["completed"]
        client.until(id, "completed")


def test_a_picture_goes_along(far, studio) -> None:
    with far() as client:
        form = {"prompt": "sea", "model": "film"}
        video = client.post("/v1/videos", data=form, files={"input_reference": ("a.png", PNG, "image/png")}).json()
        client.until(video["id"], "completed")
    assert studio.orders[0]["input_reference"] == {"image_url": "data:image/png;base64," + base64.b64encode(PNG).decode()}


def test_a_video_that_fails_there_fails_here_in_words_without_secrets(far, studio) -> None:
    studio.script = ["in_progress", "failed"]
    with far() as client:
        video = client.made(model="film")
    assert video["status"] == "failed"
    assert video["error"]["code"] == "moderation"
    assert video["error"]["message"].startswith("refused by")
    assert not any(word in json.dumps(video) for word in ("127.0.0.1", "/srv", "sk-studio", str(studio.server.server_port)))


def test_what_passes_by_is_waited_for(far, studio) -> None:
    studio.broken = {
        "POST /v1/videos": [429, 429],
        "GET /v1/videos/far_1": [500, 503, 429],
        "GET /v1/videos/far_1/content": [502],
    }
    with far() as client:
        assert client.made(model="film")["status"] == "completed"
    assert len(studio.orders) == 1


@pytest.mark.parametrize(("status", "code"), [(400, "odd"), (401, "upstream_error"), (500, "upstream_error")])
def test_an_order_that_is_refused_or_may_have_begun_is_not_given_again(far, studio, status: int, code: str) -> None:
    studio.broken = {"POST /v1/videos": [status]}
    with far() as client:
        video = client.made(model="film")
        assert (video["status"], video["error"]["code"]) == ("failed", code)
    assert studio.seen == ["POST /v1/videos"]


@pytest.mark.parametrize(("file", "kind"), [(b"", "video/mp4"), (b'{"a": 1}', "application/json"), (b"<p>", "text/html")])
def test_what_is_no_video_is_not_kept(far, studio, file: bytes, kind: str) -> None:
    studio.file, studio.kind = file, kind
    with far() as client:
        video = client.made(model="film")
        assert (video["status"], video["error"]["code"]) == ("failed", "upstream_error")
        assert client.get(f"/v1/videos/{video['id']}/content").status_code == 409


def test_no_thumbnail_is_no_failure(far, studio) -> None:
    studio.broken = {"GET /v1/videos/far_1/content?variant=thumbnail": [404]}
    with far() as client:
        video = client.made(model="film")
        assert video["status"] == "completed"
        assert client.get(f"/v1/videos/{video['id']}/content?variant=thumbnail").status_code == 404


def test_deleting_one_cancels_it_there(far, studio) -> None:
    studio.script = ["in_progress"]
    with far() as client:
        id = client.order(model="film").json()["id"]
        deadline = time.monotonic() + 30
        while "GET /v1/videos/far_1" not in studio.seen:
            assert time.monotonic() < deadline
        assert client.delete(f"/v1/videos/{id}").json()["deleted"]
        assert client.get(f"/v1/videos/{id}").status_code == 404
        looks = len(studio.seen)
        assert studio.seen[-1] == "DELETE /v1/videos/far_1"
        time.sleep(0.3)
        assert len(studio.seen) == looks


def test_the_next_server_goes_on_with_it_and_orders_nothing_anew(far, studio) -> None:
    studio.script = ["in_progress"]
    with far() as client:
        id = client.order(model="film").json()["id"]
        deadline = time.monotonic() + 30
        while "GET /v1/videos/far_1" not in studio.seen:
            assert time.monotonic() < deadline
    studio.script = ["completed"]
    with far() as client:
        assert client.until(id, "completed")["id"] == id
    assert len(studio.orders) == 1


def test_a_model_without_the_capability_is_refused_at_once(far, studio) -> None:
    with far(model={"capabilities": ("generate_text",)}) as client:
        answer = client.order(model="film")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_capability")
    assert studio.seen == []


def test_several_are_made_there_side_by_side(far, studio) -> None:
    studio.script = ["in_progress"]
    with far() as client:
        ids = [client.order(model="film").json()["id"] for _ in range(3)]
        for id in ids:
            client.until(id, "in_progress")
        studio.script = ["completed"]
        for id in ids:
            client.until(id, "completed")


def test_its_price_is_booked_once(far, studio) -> None:
    studio.broken = {"GET /v1/videos/far_1": [500, 500]}
    with far(model={"price": Price(request=0.25)}) as client:
        client.made(model="film")
        used = client.get("/v1/usage").json()["total"]
    assert (used["requests"], used["cost"]) == (1, 0.25)


def test_a_server_that_ends_does_not_wait_for_upstreams(far, studio) -> None:
    studio.script = ["in_progress"]
    with far(shutdown_grace=30.0) as client:
        client.order(model="film")
        deadline = time.monotonic() + 30
        while "GET /v1/videos/far_1" not in studio.seen:
            assert time.monotonic() < deadline
        ending = time.monotonic()
    assert time.monotonic() - ending < 10
