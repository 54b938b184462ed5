"""The two compositions: a worker's app with a handler in it, and the gateway with models inside its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from handlers import types as t
from handlers.base import BaseHandler
from handlers.echo import EchoHandler
from handlers.transformer import TransformerHandler
from openai_compat.app import create_gateway, create_worker
from openai_compat.config import Config, Model, Server
from openai_compat.http.sse import StreamTiming
from openai_compat.protocol import RelayFacts
from openai_compat.worker.runner import Runner

TEXT = {"messages": [{"role": "user", "content": "hello"}]}
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP8z8DAwMDAxMDAwMDAAAANHQEDasKb6QAAAABJRU5ErkJggg=="
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOT}"}}
PICTURES = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}, PICTURE]}]}
PROMPT = {"prompt": "hello"}
VERBS = [
    ("echo", "/v1/chat/completions", TEXT),
    ("echo", "/v1/chat/completions", PICTURES),
    ("echo", "/v1/completions", PROMPT),
    ("transformer", "/v1/chat/completions", TEXT),
    ("transformer", "/v1/completions", PROMPT),
]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory, saver: Callable[..., Path]) -> dict[str, t.ModelSpec]:
    llama = saver(tmp_path_factory.mktemp("llama"), context=512)
    return {
        "echo": t.ModelSpec(id="m", path="", kind="echo"),
        "transformer": t.ModelSpec(id="m", path=str(llama), kind="transformer", device="cpu", threads=1),
    }


@pytest.fixture(scope="module")
def load(specs: dict[str, t.ModelSpec]) -> Callable[[str], BaseHandler]:
    """A loaded handler, which a test may bend: each gets its own."""

    def loaded(kind: str) -> BaseHandler:
        handler: BaseHandler = {"echo": EchoHandler, "transformer": TransformerHandler}[kind](specs[kind])
        handler.load_model(lambda *_: None)
        return handler

    return loaded


@contextmanager
def served(handler: BaseHandler, **facts: Any) -> Iterator[Callable[..., dict[str, Any]]]:
    """Post to a worker's app that runs ``handler``."""
    runner = Runner(handler)
    headers = RelayFacts(request_id="r", model="m", public_model="m", **facts).to_headers()
    with TestClient(create_worker(runner, model_id="m", timing=StreamTiming())) as client:

        def post(path: str, **body: Any) -> dict[str, Any]:
            answer = client.post(path, json={"model": "m", **body}, headers=headers)
            assert answer.status_code == 200, answer.text
            decoded: dict[str, Any] = answer.json()
            return decoded

        yield post
        assert client.blocking_portal is not None
        client.blocking_portal.call(runner.close, 5.0)


def text_of(answer: dict[str, Any]) -> str:
    choice = answer["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


@pytest.mark.parametrize(("kind", "path", "body"), VERBS)
def test_what_prepare_inputs_makes_is_what_the_answer_is_made_of(
    load: Callable[[str], BaseHandler], monkeypatch: pytest.MonkeyPatch, kind: str, path: str, body: dict[str, Any]
) -> None:
    handler = load(kind)
    original = handler.prepare_inputs

    def another(request: t.Request) -> Any:
        prompts = ("Quite another, and much longer, input.",)
        return original(t.TextRequest(prompts=prompts, sampling=request.sampling, mode="complete"))

    with served(handler) as post:
        before = post(path, max_tokens=8, temperature=0, **body)
        monkeypatch.setattr(handler, "prepare_inputs", another)
        after = post(path, max_tokens=8, temperature=0, **body)
    assert text_of(after) != text_of(before)
    assert after["usage"]["prompt_tokens"] != before["usage"]["prompt_tokens"]


@pytest.mark.parametrize(("kind", "path", "body"), VERBS)
def test_what_postprocess_outputs_makes_is_what_the_client_reads(
    load: Callable[[str], BaseHandler], monkeypatch: pytest.MonkeyPatch, kind: str, path: str, body: dict[str, Any]
) -> None:
    handler = load(kind)
    original = handler.postprocess_outputs

    def louder(raw: Any, request: t.Request) -> Any:
        result = original(raw, request)
        if not isinstance(result, t.TextResult):
            return msgspec.structs.replace(result, text=result.text + "!")
        choices = tuple(msgspec.structs.replace(choice, text=choice.text + "!") for choice in result.choices)
        return msgspec.structs.replace(result, choices=choices)

    with served(handler) as post:
        before = post(path, max_tokens=4, temperature=0, **body)
        monkeypatch.setattr(handler, "postprocess_outputs", louder)
        assert text_of(post(path, max_tokens=4, temperature=0, **body)) == text_of(before) + "!"


@pytest.mark.parametrize("kind", ["echo", "transformer"])
def test_postprocess_outputs_sees_every_delta_of_a_stream(
    load: Callable[[str], BaseHandler], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    handler = load(kind)
    original = handler.postprocess_outputs

    def silent(raw: Any, request: t.Request) -> Any:
        result = original(raw, request)
        return msgspec.structs.replace(result, text="*") if isinstance(result, t.TextDelta) else result

    monkeypatch.setattr(handler, "postprocess_outputs", silent)
    runner = Runner(handler)
    headers = RelayFacts(request_id="r", model="m", public_model="m").to_headers()
    with TestClient(create_worker(runner, model_id="m", timing=StreamTiming())) as client:
        body = {"model": "m", "stream": True, "max_tokens": 4, "temperature": 0, **TEXT}
        events = client.post("/v1/chat/completions", json=body, headers=headers).text
        assert client.blocking_portal is not None
        client.blocking_portal.call(runner.close, 5.0)
    chunks = [msgspec.json.decode(line[6:]) for line in events.splitlines() if line.startswith("data: {")]
    texts = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    assert {text for text in texts if text} == {"*"}


class Witness:
    """Writes down what the model was given and under which parameters."""

    def __init__(self, handler: BaseHandler) -> None:
        self.prompts: list[Any] = []
        self.configs: list[Any] = []
        prepare, configure = handler.prepare_inputs, handler.get_generation_config

        def prepare_inputs(request: t.Request) -> Any:
            self.prompts.append(prepare(request))
            return self.prompts[-1]

        def get_generation_config(request: t.Request) -> Any:
            self.configs.append(configure(request))
            return self.configs[-1]

        handler.prepare_inputs = prepare_inputs  # type: ignore[method-assign]
        handler.get_generation_config = get_generation_config  # type: ignore[method-assign]


@pytest.mark.parametrize("mode", list(TransformerHandler.modes))
def test_each_mode_shapes_prompt_and_sampling_and_a_request_field_beats_it(
    load: Callable[[str], BaseHandler], mode: str
) -> None:
    handler = load("transformer")
    witness = Witness(handler)
    with served(handler, mode=mode) as post:
        post("/v1/chat/completions", max_tokens=1, **TEXT)
        post("/v1/chat/completions", max_tokens=1, temperature=0.123, top_p=0.456, **TEXT)
        post("/v1/chat/completions", max_tokens=1, mode="complete", **TEXT)
    by_mode, by_request = witness.configs[0], witness.configs[1]
    told = TransformerHandler.modes[mode]
    if told.temperature is not None:
        assert by_mode.temperature == told.temperature
    if told.top_p is not None:
        assert by_mode.top_p == told.top_p
    assert (by_request.temperature, by_request.top_p) == (0.123, 0.456)
    vocabulary = handler._lm.vocabulary  # type: ignore[attr-defined]
    rendered, complete = (b"".join(map(vocabulary.token_bytes, witness.prompts[i][0].ids)).decode() for i in (0, 2))
    assert "hello" in rendered
    if told.system_prompt is not None and "{" not in told.system_prompt:
        assert told.system_prompt in rendered
    assert complete == "hello"


def test_the_inline_gateway_answers_streams_refuses_and_lists() -> None:
    models = {"echo": Model(source="", kind="echo")}
    config = Config(server=Server(inline=True, port=0), models=models, aliases={"gpt-4o-mini": "echo"})
    with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        answer = client.post("/v1/chat/completions", json={"model": "gpt-4o-mini", **TEXT})
        assert (answer.status_code, text_of(answer.json())) == (200, "hello")
        assert answer.json()["model"] == "gpt-4o-mini"
        streamed = client.post("/v1/chat/completions", json={"model": "echo", "stream": True, **TEXT})
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert client.post("/v1/chat/completions", json={"model": "nobody", **TEXT}).status_code == 404
        assert {entry["id"] for entry in client.get("/v1/models").json()["data"]} == {"echo", "gpt-4o-mini"}
        assert {entry["state"] for entry in client.get("/v1/models").json()["data"]} == {"ready"}


def test_a_model_is_described_under_every_name_that_a_request_could_use_and_no_other() -> None:
    aliases = {"loud": "echo:shout", "louder": "loud", "odd": "echo:nope"}
    config = Config(server=Server(inline=True, port=0), models={"echo": Model(source="", kind="echo")}, aliases=aliases)
    with TestClient(create_gateway(config), base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        for name in ("echo", "loud", "louder", "echo:shout"):
            model = client.get(f"/v1/models/{name}").json()
            assert (model["id"], model["aliases"]) == (name, ["loud", "louder", "odd"])
        assert len(client.get("/v1/models").json()["data"]) == 4
        for name in ("echo:nope", "odd"):
            answer = client.get(f"/v1/models/{name}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
