"""Every answer has a request id, every request one line in the log and one count in the metrics."""

from __future__ import annotations

import asyncio
import logging
import re
from types import SimpleNamespace

import pytest
from litestar import Litestar, Request, get
from litestar.di import Provide
from litestar.params import FromPath
from litestar.response import Stream
from litestar.testing import TestClient

from openai_compat import errors
from openai_compat.auth import Authentication, hash_key
from openai_compat.config import Auth, Config
from openai_compat.http.errors import exception_handlers
from openai_compat.keys.ring import Ring
from openai_compat.metrics import Metrics
from openai_compat.telemetry import Telemetry
from routes.metrics import MetricsController


@get("/models/{name:str}")
async def model(request: Request, name: FromPath[str]) -> dict:
    request.scope["state"]["model"] = name
    return {"request_id": request.scope["state"]["request_id"]}


@get("/stream")
async def stream() -> Stream:
    async def pieces():
        yield b"one"
        yield b"two"

    return Stream(pieces())


@get("/breaks")
async def breaks() -> Stream:
    async def pieces():
        yield b"one"
        raise ValueError("inside")

    return Stream(pieces())


@get("/typed")
async def typed() -> None:
    raise errors.WorkerDied("The model's worker ended.")


@get("/health/live")
async def live() -> str:
    return "ok"


STATES = (
    SimpleNamespace(model_id="a", state="ready", memory={"host": 100, "cuda:0": 5}, active=2, waiting=1),
    SimpleNamespace(model_id="b", state="ready", memory={}, active=0, waiting=0),
    SimpleNamespace(model_id="c", state="loading", memory={"host": 7}, active=0, waiting=3),
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(lambda: STATES)


@pytest.fixture
def client(metrics):
    app = Litestar(
        [model, stream, breaks, typed, live, MetricsController],
        exception_handlers=exception_handlers,
        logging_config=None,
        dependencies={"metrics_registry": Provide(lambda: metrics.registry, sync_to_thread=False)},
    )
    keys = Ring(Config(auth=Auth(keys=(hash_key("k"),))))
    app.asgi_handler = Telemetry(Authentication(app.asgi_handler, keys), metrics=metrics)
    with TestClient(app, raise_server_exceptions=False) as client:
        client.headers["x-api-key"] = "k"
        yield client


def access_lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "openai_compat.access"]


@pytest.mark.parametrize(
    "path", ["/models/a", "/stream", "/typed", "/nowhere", "/health/live", "/metrics", "/schema/openapi.json"]
)
def test_every_answer_has_an_id_of_its_own(client, path) -> None:
    first, second = (client.get(path).headers["x-request-id"] for _ in range(2))
    assert first.startswith("req_")
    assert first != second


def test_a_refused_request_has_an_id_too(client) -> None:
    response = client.get("/models/a", headers={"x-api-key": "wrong", "x-request-id": "mine"})
    assert response.status_code == 401
    assert response.headers["x-request-id"] == "mine"


def test_the_clients_own_id_is_used_and_seen_inside(client) -> None:
    response = client.get("/models/a", headers={"x-request-id": "trace-1.2:3_4"})
    assert response.headers["x-request-id"] == "trace-1.2:3_4"
    assert response.json() == {"request_id": "trace-1.2:3_4"}


@pytest.mark.parametrize("bad", ["", "x" * 129, "a b", "a\tb", 'a"b', "<script>"])
def test_a_harmful_id_is_replaced(client, bad) -> None:
    assert client.get("/models/a", headers={"x-request-id": bad}).headers["x-request-id"].startswith("req_")


def test_an_inner_answers_id_is_replaced_by_the_gateways(metrics) -> None:
    async def relayed(scope, receive, send) -> None:
        headers = [(b"X-Request-Id", b"inner"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    sent = run(Telemetry(relayed, metrics=metrics), {"x-request-id": "outer"})
    assert [value for name, value in sent[0]["headers"] if name.lower() == b"x-request-id"] == [b"outer"]


def test_the_log_line_names_all_that_matters(client, caplog) -> None:
    caplog.set_level(logging.INFO)
    client.get("/models/smol", headers={"x-request-id": "abc"})
    [line] = access_lines(caplog)
    assert line.startswith("GET /models/smol 200 smol ")
    assert line.endswith(" abc")
    [fields] = [record.fields() for record in caplog.records if record.name == "openai_compat.access"]
    assert fields["bytes"] == len(b'{"request_id":"abc"}')
    assert 0 <= fields["first_byte"] <= fields["duration"]


@pytest.mark.parametrize("path", ["/v1/media/secret.png", "//v1/media/secret.png", "/v1//media///secret.png"])
def test_a_link_s_secret_is_in_no_log(client, caplog, path: str) -> None:
    caplog.set_level(logging.INFO)
    client.get(f"http://127.0.0.1{path}")
    [line] = access_lines(caplog)
    assert line.startswith("GET /v1/media/… 404 ")
    assert "secret" not in str([record.fields() for record in caplog.records if record.name == "openai_compat.access"])


def test_server_errors_are_warnings_and_health_is_quiet(client, caplog) -> None:
    caplog.set_level(logging.INFO)
    client.get("/typed")
    client.get("/health/live")
    [record] = [record for record in caplog.records if record.name == "openai_compat.access"]
    assert record.levelno == logging.WARNING
    assert " 503 " in record.getMessage()


def test_a_stream_that_breaks_is_logged_with_its_cause_and_left_unfinished(metrics, caplog) -> None:
    app = Litestar([breaks], exception_handlers=exception_handlers, logging_config=None)
    sent = run(Telemetry(app, metrics=metrics), path="/breaks")
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"] is True
    assert "ValueError: inside" in caplog.text


def test_an_exception_that_nobody_caught_is_answered(metrics, caplog) -> None:
    async def broken(scope, receive, send) -> None:
        raise ValueError("inside")

    sent = run(Telemetry(broken, metrics=metrics))
    assert sent[0]["status"] == 500
    assert b"inside" not in sent[1]["body"]
    assert b"internal_error" in sent[1]["body"]
    assert "ValueError: inside" in caplog.text


def test_a_client_that_left_is_a_499(metrics, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def watching(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    run(Telemetry(watching, metrics=metrics))
    [line] = access_lines(caplog)
    assert " 499 " in line


def test_an_answer_complete_before_the_client_left_is_not_a_499(metrics, caplog) -> None:
    caplog.set_level(logging.INFO)

    async def answering(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all"})
        await receive()

    run(Telemetry(answering, metrics=metrics))
    [line] = access_lines(caplog)
    assert " 200 " in line


def test_the_metrics_count_by_template_status_and_model(client, metrics) -> None:
    for name in ("a", "a", "b"):
        client.get(f"/models/{name}")
    client.get("/nowhere/1")
    client.get("/nowhere/2")
    text = client.get("/metrics").text
    assert 'openai_compat_requests_total{model="a",route="/models/{name}",status="200"} 2.0' in text
    assert 'openai_compat_requests_total{model="",route="unmatched",status="404"} 2.0' in text
    assert 'openai_compat_request_duration_seconds_count{model="b",route="/models/{name}"} 1.0' in text
    assert 'openai_compat_first_byte_seconds_count{model="a",route="/models/{name}"} 2.0' in text
    assert "openai_compat_requests_in_flight 1.0" in text


def test_the_metrics_count_the_tasks_of_the_loop(client) -> None:
    (tasks,) = re.findall(r"^openai_compat_event_loop_tasks (\d+)", client.get("/metrics").text, re.MULTILINE)
    assert int(tasks) >= 1


def test_the_metrics_show_the_models(client) -> None:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'openai_compat_models{state="ready"} 2.0' in response.text
    assert 'openai_compat_models{state="loading"} 1.0' in response.text
    assert 'openai_compat_model_memory_bytes{device="cuda:0",model="a"} 5.0' in response.text
    assert 'openai_compat_model_active{model="a"} 2.0' in response.text
    assert 'openai_compat_model_waiting{model="c"} 3.0' in response.text


def test_two_gateways_in_one_process_do_not_share_their_counts() -> None:
    first, second = Metrics(), Metrics()
    first.observe(route="/", status=200, model="", duration=1.0, first_byte=None)
    assert first.registry.get_sample_value("openai_compat_requests_total", {"route": "/", "status": "200", "model": ""}) == 1.0
    assert (
        second.registry.get_sample_value("openai_compat_requests_total", {"route": "/", "status": "200", "model": ""}) is None
    )


def run(app, headers: dict[str, str] | None = None, path: str = "/") -> list[dict]:
    """Call an ASGI app once with a client that leaves at once, and return what it sent."""
    sent = []

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    async def send(message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "state": {},
    }
    asyncio.run(app(scope, receive, send))
    return sent


async def ended_early(metrics: Metrics, *messages: dict) -> list[dict]:
    """What goes out of an application that has sent ``messages`` and then works on when the server ends."""
    sent: list[dict] = []

    async def app(scope, receive, send) -> None:
        for message in messages:
            await send(message)
        await asyncio.sleep(60)

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/x", "headers": [], "client": None, "state": {}}
    task = asyncio.ensure_future(Telemetry(app, metrics=metrics)(scope, None, send))
    await asyncio.sleep(0)
    task.cancel()
    await task
    return sent


def begun(content_type: bytes) -> dict:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-type", content_type)]}


def piece(body: bytes) -> dict:
    return {"type": "http.response.body", "body": body, "more_body": True}


@pytest.mark.parametrize(("last", "gap"), [(b"data: 1\n\n", b""), (b": ping\r\n\r\n", b""), (b"data: cut", b"\n\n")])
def test_a_stream_that_the_servers_end_cuts_off_says_so(metrics, last, gap) -> None:
    *_, end = asyncio.run(ended_early(metrics, begun(b"text/event-stream; charset=utf-8"), piece(last)))
    assert end["body"].startswith(gap + b'data: {"error": {"message": "The server is shutting down."')
    assert not end["more_body"]


def test_an_answer_that_has_not_begun_at_the_servers_end_is_a_503(metrics) -> None:
    start, body = asyncio.run(ended_early(metrics))
    assert start["status"] == 503
    assert b'"code": "shutting_down"' in body["body"]
    assert (b"retry-after", b"1") in start["headers"]


def test_half_a_whole_answer_is_not_made_to_look_complete(metrics) -> None:
    sent = asyncio.run(ended_early(metrics, begun(b"application/json"), piece(b'{"half": ')))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"]
