"""`/v1/videos` through the whole gateway, with an echo in its own process."""

from __future__ import annotations

import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from handlers.echo import EchoHandler
from openai_compat.auth import hash_key
from openai_compat.errors import Cancelled
from openai_compat.gateway.store.database import full
from openai_compat.gateway.store.objects import Objects

SLOW = "[[delay=0.05]] sea"  # an echo waits so long before each frame
STUCK = "[[delay=5]] sea"


def picture(format: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 40, 40)).save(target, format)
    return target.getvalue()


def test_a_video_is_ordered_waited_for_and_fetched(served) -> None:
    with served() as client:
        answer = client.order(model="sora-2", seconds="2", fps=8)
        order = answer.json()
        assert answer.status_code == 200
        assert int(answer.headers["openai-poll-after-ms"]) > 0
        assert order["status"] == "queued"
        assert (order["object"], order["model"], order["seconds"], order["size"]) == ("video", "sora-2", "2", "64x48")
        assert order["error"] is order["completed_at"] is order["expires_at"] is order["remixed_from_video_id"] is None
        video = client.until(order["id"], "completed")
        assert (video["progress"], video["prompt"]) == (100, "sea")
        assert video["expires_at"] == pytest.approx(video["completed_at"] + 86_400, abs=1)
        content = client.get(f"/v1/videos/{order['id']}/content")
        assert content.headers["content-type"] == "video/mp4"
        assert content.headers["content-length"] == str(len(content.content))
        part = client.get(f"/v1/videos/{order['id']}/content", headers={"range": "bytes=10-"})
        assert (part.status_code, part.content) == (206, content.content[10:])
        with av.open(io.BytesIO(content.content)) as container:
            stream = container.streams.video[0]
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (len(frames), stream.average_rate, stream.width, stream.height) == (16, 8, 64, 48)


def test_a_thumbnail_is_the_first_frame(served) -> None:
    with served() as client:
        video = client.made()
        answer = client.get(f"/v1/videos/{video['id']}/content", params={"variant": "thumbnail"})
        assert answer.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.size == (64, 48)


def test_what_was_not_asked_for_is_known_once_it_is_made(served) -> None:
    with served() as client:
        order = client.post("/v1/videos", json={"prompt": "sea"}).json()
        assert (order["seconds"], order["size"], order["model"]) == ("auto", "auto", "echo")
        video = client.until(order["id"], "completed")
        assert (video["seconds"], video["size"]) == ("1", "64x64")


def test_progress_is_shown_while_it_is_made(served) -> None:
    with served() as client:
        id = client.order(prompt=SLOW, frames=40).json()["id"]
        client.until(id, "in_progress")
        seen = set()
        while (video := client.get(f"/v1/videos/{id}").json())["status"] == "in_progress":
            seen.add(video["progress"])
            time.sleep(0.02)
        assert video["status"] == "completed"
        assert len(seen) > 3
        assert max(seen) <= 99


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": " "}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"seconds": "0"}, "seconds"),
        ({"seconds": "four"}, "seconds"),
        ({"seconds": 1000}, "seconds"),
        ({"seconds": "1000"}, "seconds"),
        ({"size": "64"}, "size"),
        ({"size": "63x48"}, "size"),
        ({"size": "64x90000"}, "size"),
        ({"fps": 0}, "fps"),
        ({"fps": 1e-300}, "fps"),
        ({"frames": 0}, "frames"),
        ({"steps": 1.5}, "steps"),
        ({"mode": "nonsense"}, "mode"),
        ({"model": "nobody"}, "model"),
        ({"input_reference": {"file_id": "file-1"}}, "input_reference.file_id"),
        ({"input_reference": {}}, "input_reference"),
        ({"input_reference": {"image_url": "https://example.org/a.png"}}, "input_reference.image_url"),
        ({"input_reference": {"image_url": "data:image/png;base64,AAAA"}}, "input_reference.image_url"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once_by_its_field(served, fields: dict[str, Any], param: str) -> None:
    with served() as client:
        answer = client.order(**fields)
        assert answer.status_code == (404 if param == "model" else 400)
        assert answer.json()["error"]["param"] == param
        assert client.get("/v1/videos").json()["data"] == []


def test_seconds_may_be_a_number_and_a_form_brings_the_first_picture(served, monkeypatch) -> None:
    seen = []
    original = EchoHandler.validate_inputs

    def watch(self: Any, request: Any) -> None:
        seen.append(request)
        original(self, request)

    monkeypatch.setattr(EchoHandler, "validate_inputs", watch)
    fields = {"prompt": "sea", "seconds": "1.5", "size": "64x48", "seed": "7", "fps": "4", "steps": "3", "guidance": "2.5"}
    with served() as client:
        form = client.post("/v1/videos", data=fields, files={"input_reference": ("a.png", picture())}).json()
        client.until(form["id"], "completed")
        url = "data:image/png;base64," + base64.b64encode(picture("WEBP")).decode()
        client.made(seconds=1.5, seed=7, fps=4, steps=3, guidance=2.5, input_reference={"image_url": url})
        client.made(seconds="1.5", seed=7, fps=4, steps=3, guidance=2.5, negative_prompt="fog", frames=3)
    first, second, third = (request for request in seen if hasattr(request, "frames"))
    assert (first.image.width, first.image.height) == (64, 48)
    assert (first.seconds, first.seed, first.rate, first.steps, first.guidance) == (1.5, 7, 4.0, 3, 2.5)
    assert (second.seconds, second.image.width) == (1.5, 64)
    assert (third.negative_prompt, third.frames, third.image) == ("fog", 3, None)


def test_a_picture_that_breaks_its_decoder_fails_the_video_by_name(served, tmp_path: Path) -> None:
    with served() as client:
        half = picture()[:60]
        order = client.post("/v1/videos", data={"prompt": "sea"}, files={"input_reference": ("a.png", half)}).json()
        video = client.until(order["id"], "failed")
        assert video["error"]["code"] == "invalid_image"
        assert video["error"]["param"] == "input_reference"
        answer = client.get(f"/v1/videos/{order['id']}/content")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_failed")
    assert list((tmp_path / "kept" / "media").iterdir()) == []


@pytest.mark.parametrize(("failure", "code"), [(RuntimeError("/secret/path"), "server_error"), (Cancelled(), "cancelled")])
def test_a_model_that_fails_on_the_way_fails_the_video_and_tells_no_secret(served, monkeypatch, failure, code) -> None:
    original = EchoHandler.generate_video

    def fail(self: Any, request: Any, ctx: Any) -> Any:
        original(self, request, ctx)
        raise failure

    monkeypatch.setattr(EchoHandler, "generate_video", fail)
    with served() as client:
        video = client.made()
        assert video["status"] == "failed"
        assert video["error"]["code"] == code
        assert "secret" not in video["error"]["message"]


def test_to_another_key_a_video_does_not_exist(served) -> None:
    with served(keys=(hash_key("one"), hash_key("two"))) as client:
        client.headers["authorization"] = "Bearer one"
        id = client.made()["id"]
        client.headers["authorization"] = "Bearer two"
        assert client.get("/v1/videos").json()["data"] == []
        calls = [
            client.get(f"/v1/videos/{id}"),
            client.get(f"/v1/videos/{id}/content"),
            client.delete(f"/v1/videos/{id}"),
            client.post(f"/v1/videos/{id}/remix", json={"prompt": "x"}),
        ]
        assert {answer.status_code for answer in calls} == {404}
        assert client.get("/v1/videos", params={"after": id}).status_code == 400
        client.headers["authorization"] = "Bearer one"
        assert client.get(f"/v1/videos/{id}/content").status_code == 200
        del client.headers["authorization"]
        assert client.get(f"/v1/videos/{id}/content").status_code == 401


def test_lists_go_on_where_the_last_page_ended(served) -> None:
    with served() as client:
        ids = [client.order(frames=1).json()["id"] for _ in range(5)]
        first = client.get("/v1/videos", params={"limit": 2}).json()
        assert [video["id"] for video in first["data"]] == ids[:2:-1]
        assert (first["object"], first["has_more"]) == ("list", True)
        assert (first["first_id"], first["last_id"]) == (ids[4], ids[3])
        rest = client.get("/v1/videos", params={"after": first["last_id"]}).json()
        assert ([video["id"] for video in rest["data"]], rest["has_more"]) == (ids[2::-1], False)
        oldest = client.get("/v1/videos", params={"order": "asc", "limit": 1}).json()
        assert oldest["data"][0]["id"] == ids[0]
        for query in ({"limit": 0}, {"limit": "many"}, {"order": "up"}, {"after": "video_x"}):
            answer = client.get("/v1/videos", params=query)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))


def test_a_deleted_video_is_gone_with_its_files(served, tmp_path: Path) -> None:
    with served() as client:
        id = client.made()["id"]
        assert len(list((tmp_path / "kept" / "media").iterdir())) == 2
        assert client.delete(f"/v1/videos/{id}").json() == {"id": id, "deleted": True, "object": "video.deleted"}
        assert list((tmp_path / "kept" / "media").iterdir()) == []
        assert client.get(f"/v1/videos/{id}").status_code == 404
        assert client.delete(f"/v1/videos/{id}").status_code == 404


def test_deleting_what_is_being_made_stops_the_model_at_its_next_step(served) -> None:
    with served() as client:
        id = client.order(prompt=SLOW, frames=1024).json()["id"]
        client.until(id, "in_progress")
        assert client.delete(f"/v1/videos/{id}").status_code == 200
        began = time.monotonic()
        assert client.made(frames=1)["status"] == "completed"
        assert time.monotonic() - began < 10


def test_too_many_waiting_are_told_to_come_back(served) -> None:
    with served(jobs={"max_waiting": 2}) as client:
        first = client.order(prompt=SLOW, frames=1024).json()["id"]
        client.until(first, "in_progress")
        waiting = [client.order().json()["id"] for _ in range(2)]
        refused = client.order()
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert [client.get(f"/v1/videos/{id}").json()["status"] for id in waiting] == ["queued"] * 2
        client.delete(f"/v1/videos/{waiting[0]}")
        third = client.order().json()["id"]
        client.delete(f"/v1/videos/{first}")
        for id in (waiting[1], third):
            client.until(id, "completed")


def test_orders_that_come_together_are_counted_too(served) -> None:
    with served(jobs={"max_waiting": 2}) as client, ThreadPoolExecutor(12) as threads:
        client.until(client.order(prompt=STUCK).json()["id"], "in_progress")
        answers = list(threads.map(lambda _: client.order(), range(12)))
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 10
        assert len(client.get("/v1/videos").json()["data"]) == 3


def test_a_form_s_picture_comes_once(served) -> None:
    with served() as client:
        files = {"input_reference": ("a.png", picture(), "image/png")}
        inside = "data:image/png;base64," + base64.b64encode(picture()).decode()
        answer = client.post("/v1/videos", data={"prompt": "sea", "input_reference[image_url]": inside}, files=files)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input_reference")


class Disk:
    """One that is full while ``status`` is to be written, as often as ``times`` says."""

    def __init__(self, status: str, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused = 0
        change = Objects.change

        async def changed(objects: Objects, id: str, **values: Any) -> None:
            if values["status"] == status and self.refused < times:
                self.refused += 1
                raise full()
            await change(objects, id, **values)

        monkeypatch.setattr(Objects, "change", changed)
        monkeypatch.setattr("openai_compat.gateway.jobs.videos._NO_ROOM_PAUSE", 0.01)


@pytest.mark.parametrize("status", ["in_progress", "completed", "failed"])
def test_a_job_waits_for_room_on_the_disk(served, monkeypatch, status: str) -> None:
    disk = Disk(status, 3, monkeypatch)
    with served() as client:
        prompt = "[[fail_after=0]] sea" if status == "failed" else "sea"
        assert client.made(prompt=prompt)["status"] == ("failed" if status == "failed" else "completed")
    assert disk.refused == 3


def test_a_full_disk_keeps_no_server_from_its_end_or_its_start(served, monkeypatch) -> None:
    disk = Disk("failed", 2, monkeypatch)
    with served() as client:
        id = client.order(prompt=STUCK).json()["id"]
        client.until(id, "in_progress")
    with served() as client:
        assert client.get(f"/v1/videos/{id}").json()["status"] == "in_progress"
    assert disk.refused == 2
    with served() as client:
        assert client.get(f"/v1/videos/{id}").json()["error"]["code"] == "server_restarted"


def test_a_video_that_takes_too_long_fails_by_name(served) -> None:
    with served(jobs={"timeout": 0.5}) as client:
        video = client.made(prompt=SLOW, frames=1024)
        assert (video["status"], video["error"]["code"]) == ("failed", "deadline_exceeded")


def test_where_there_is_no_room_the_video_fails_and_leaves_nothing(served, tmp_path: Path) -> None:
    with served(storage={"quota": 500}) as client:
        video = client.made(frames=64)
        assert (video["status"], video["error"]["code"]) == ("failed", "storage_full")
        assert list((tmp_path / "kept" / "media").iterdir()) == []


def test_a_remix_is_the_same_order_by_another_prompt(served) -> None:
    with served() as client:
        source = client.made(frames=3, fps=5)
        remix = client.post(f"/v1/videos/{source['id']}/remix", json={"prompt": "sky"}).json()
        assert (remix["remixed_from_video_id"], remix["prompt"], remix["size"]) == (source["id"], "sky", "64x48")
        video = client.until(remix["id"], "completed")
        assert video["seconds"] == source["seconds"] == "0.6"
        contents = [client.get(f"/v1/videos/{id}/content").content for id in (source["id"], remix["id"])]
        assert contents[0] != contents[1]
        assert client.post(f"/v1/videos/{source['id']}/remix", json={}).json()["error"]["param"] == "prompt"


def test_what_is_not_made_cannot_be_fetched_or_remixed_yet(served) -> None:
    with served() as client:
        id = client.order(prompt=STUCK).json()["id"]
        for answer in (client.get(f"/v1/videos/{id}/content"), client.post(f"/v1/videos/{id}/remix", json={"prompt": "x"})):
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_not_ready")
            assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("path", ["edits", "extensions", "characters"])
def test_what_no_model_here_can_do_is_refused_in_words(served, path: str) -> None:
    with served() as client:
        answer = client.post(f"/v1/videos/{path}", json={"prompt": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_capability")


@pytest.mark.parametrize("variant", ["spritesheet", "nonsense"])
def test_other_variants_are_refused_by_name(served, variant: str) -> None:
    with served() as client:
        answer = client.get(f"/v1/videos/{client.made()['id']}/content", params={"variant": variant})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "variant")


def test_a_video_s_file_is_behind_no_public_link(served, tmp_path: Path) -> None:
    with served() as client:
        client.made()
        for path in (tmp_path / "kept" / "media").iterdir():
            assert client.get(f"/v1/media/{path.name}").status_code == 404


def test_after_a_restart_what_waited_is_made_and_what_was_being_made_has_failed(served) -> None:
    with served() as client:
        done = client.made()["id"]
        running = client.order(prompt=SLOW, frames=1024).json()["id"]
        client.until(running, "in_progress")
        waiting = client.order(frames=4).json()["id"]
    with served() as client:
        assert client.until(running, "failed")["error"]["code"] == "server_restarted"
        assert client.until(waiting, "completed")["seconds"] == "1"
        assert client.get(f"/v1/videos/{done}/content").status_code == 200


def test_a_server_that_ends_lets_a_short_video_be_finished(served) -> None:
    with served(shutdown_grace=20.0) as client:
        id = client.order(prompt=SLOW, frames=20).json()["id"]
        client.until(id, "in_progress")
    with served() as client:
        assert client.get(f"/v1/videos/{id}").json()["status"] == "completed"


def test_a_page_of_another_origin_may_send_no_order(served) -> None:
    with served() as client:
        form = {"data": {"prompt": "sea"}, "files": {"input_reference": ("a.png", picture())}}
        answer = client.post("/v1/videos", headers={"origin": "https://evil.example"}, **form)
        assert answer.status_code == 403
        assert client.post("/v1/videos", content="prompt=sea", headers={"content-type": "text/plain"}).status_code == 415
        assert client.get("/v1/videos").json()["data"] == []


def test_a_key_that_may_spend_no_more_orders_no_more_videos(served) -> None:
    with served(metering={"cost_per_day": 0.9}) as client:
        assert client.made()["status"] == "completed"
        while client.get("/v1/usage").json()["total"]["requests"] < 1:
            time.sleep(0.02)
        assert client.get("/v1/usage").json()["total"]["cost"] == 0.5
        refused = client.order()
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
