"""A video as a worker makes it: progress, facts, a thumbnail, the file."""

from __future__ import annotations

import io
import json
from typing import Any

import av

from openai_compat.errors import InvalidRequest
from openai_compat.http.parcels import MEDIA_TYPE, Kind, ParcelReader

ORDER = {"prompt": "sea", "size": "64x48", "seconds": "1", "fps": 8}


async def parcels_of(worker: Any, **fields: Any) -> list[tuple[Kind, bytes]]:
    answer = await worker.post("/v1/videos", **{**ORDER, **fields})
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPE)
    return list(ParcelReader().feed(answer.content))


def test_progress_comes_first_and_the_whole_file_last(serve) -> None:
    async def scenario(worker) -> None:
        parcels = await parcels_of(worker, prompt="[[delay=0.01]] sea")
        kinds = [kind for kind, _ in parcels]
        assert kinds == sorted(kinds)
        assert kinds[-1] is Kind.END
        steps = [json.loads(payload) for kind, payload in parcels if kind is Kind.PROGRESS]
        assert [step["done"] for step in steps] == sorted(step["done"] for step in steps)
        assert steps[-1] == {"done": 8, "total": 8}
        facts = json.loads(next(payload for kind, payload in parcels if kind is Kind.FACTS))
        assert facts == {"frames": 8, "rate": 8.0, "width": 64, "height": 48}
        content = b"".join(payload for kind, payload in parcels if kind is Kind.CONTENT)
        with av.open(io.BytesIO(content)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 8

    serve(scenario)


def test_what_the_handler_refuses_before_it_begins_has_its_own_status(serve, monkeypatch) -> None:
    async def scenario(worker) -> None:
        def refuse(request: Any) -> None:
            raise InvalidRequest("Too large for this model.", param="size")

        worker.handler.validate_inputs = refuse
        answer = await worker.post("/v1/videos", **ORDER)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "size")

    serve(scenario)


def test_a_failure_on_the_way_is_the_last_parcel(serve) -> None:
    async def scenario(worker) -> None:
        original = worker.handler.generate_video

        def fail(request: Any, ctx: Any) -> Any:
            original(request, ctx)
            raise InvalidRequest("Not like this.", param="prompt")

        worker.handler.generate_video = fail
        kind, payload = (await parcels_of(worker))[-1]
        assert kind is Kind.ERROR
        assert json.loads(payload)["error"]["param"] == "prompt"

    serve(scenario)
