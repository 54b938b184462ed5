"""The same clients against models of a server, and against that server as the upstream of another: they see no difference."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

KEY = "sk-of-the-first-server"
CHAT = "smollm2-135m-instruct"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
ASKED = {"messages": QUESTION, "max_tokens": 16, "temperature": 0}
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris {é}"}}\n</tool_call>'
SOURCES = {"all-minilm-l6-v2": "minilm_folder", "whisper-base": "whisper_base_folder", "piper-joe": "piper_joe_folder"}
FIRST = """
[models.echo]
kind = "echo"
[models.shapes]
source = "bundled:shapes"
threads = 1
[aliases]
gpt-4o-mini = "smollm2-135m-instruct"
[auth]
keys = ["sha256:{none}"]
"""
SECOND = """
[upstreams.first]
base_url = "{base_url}"
api_key_env = "FIRST_KEY"
discover = true
"""


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, server: Any, model_source: str, request: pytest.FixtureRequest
) -> Iterator[dict[str, Any]]:
    """The server that has the models, and one that has nothing but the first."""
    folder = tmp_path_factory.mktemp("first")
    text = f"[models.{CHAT}]\n{model_source}" + FIRST.format(none=hashlib.sha256(b"none").hexdigest())
    for name, fixture in SOURCES.items():
        text += f"[models.{name}]\nsource = {json.dumps(str(request.getfixturevalue(fixture)))}\nthreads = 1\n"
    text += "[models.piper-joe.options]\nnoise_scale = 0.0\nnoise_w = 0.0\n"
    (folder / "first.toml").write_text(text)
    first = type(server)(folder / "first.toml", folder, env={"OPENAI_COMPAT_API_KEY": KEY})
    (folder / "second.toml").write_text(SECOND.format(base_url=first.base_url))
    second = type(server)(folder / "second.toml", folder, env={"FIRST_KEY": KEY})
    wait_until_listed(second)
    yield {"local": first, "upstream": second}
    for running in (second, first):
        assert running.stop() == 0, running.log.read_text()
        assert KEY not in running.log.read_text()
    assert first.base_url not in second.log.read_text()


def wait_until_listed(server: Any, patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not httpx2.get(f"{server.base_url}/models").json()["data"]:
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module", params=["local", "upstream"])
def served(request: pytest.FixtureRequest, servers: dict[str, Any]) -> Any:
    return servers[request.param]


@pytest.fixture
def sdk(served: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served.base_url, api_key=KEY, max_retries=0) as client:
        yield client


# ---------------------------------------------------------------- what clients do, against both


def test_a_whole_answer(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model=CHAT, **ASKED)
    assert "Paris" in (answer.choices[0].message.content or "")
    assert (answer.model, answer.choices[0].finish_reason) == (CHAT, "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def test_an_alias_is_what_the_client_reads_again(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_tokens=2)
    chunks = list(sdk.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, max_tokens=2, stream=True))
    assert {answer.model, *(chunk.model for chunk in chunks)} == {"gpt-4o-mini"}


def test_a_stream_says_the_same_and_usage_only_where_it_is_wanted(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model=CHAT, **ASKED)
    chunks = list(sdk.chat.completions.create(model=CHAT, stream=True, **ASKED))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)
    *chunks, last = sdk.chat.completions.create(model=CHAT, stream=True, stream_options={"include_usage": True}, **ASKED)
    assert (last.choices, last.usage) == ([], whole.usage)


def test_legacy_completions(sdk: openai.OpenAI) -> None:
    fields: Any = {"model": CHAT, "prompt": "One, two, three,", "max_tokens": 6, "temperature": 0}
    whole = sdk.completions.create(**fields).choices[0].text
    assert "four" in whole
    assert "".join(event.choices[0].text for event in sdk.completions.create(stream=True, **fields)) == whole


def test_a_mode_of_the_model(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model=f"{CHAT}:creative", messages=QUESTION, max_tokens=2)
    assert answer.model == f"{CHAT}:creative"


def test_tools(sdk: openai.OpenAI) -> None:
    fields: Any = {"model": "echo", "messages": [{"role": "user", "content": CALL}], "tools": [TOOL]}
    with sdk.chat.completions.stream(**fields) as stream:
        streamed = stream.get_final_completion().choices[0]
    for choice in (sdk.chat.completions.create(**fields).choices[0], streamed):
        [call] = choice.message.tool_calls or ()
        assert (call.type, choice.finish_reason) == ("function", "tool_calls")
        assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris {é}"})


def test_structured_output(sdk: openai.OpenAI) -> None:
    city = {"city": {"enum": ["Paris", "Rome"]}}
    schema = {"type": "object", "properties": city, "required": ["city"], "additionalProperties": False}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    answer = sdk.chat.completions.create(model=CHAT, messages=QUESTION, max_tokens=100, temperature=0, response_format=wanted)
    assert json.loads(answer.choices[0].message.content or "")["city"] in ("Paris", "Rome")


def test_embeddings_in_both_encodings(sdk: openai.OpenAI) -> None:
    model, texts = "all-minilm-l6-v2", ["That is a happy person", "naïve café 😀"]
    packed = sdk.embeddings.create(model=model, input=texts)
    plain = sdk.embeddings.create(model=model, input=texts, encoding_format="float")
    assert len(packed.data) == 2
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding)
    assert packed.usage == plain.usage


def test_speech_is_spoken_and_heard(sdk: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    asked: Any = {"model": "piper-joe", "voice": "alloy", "input": "Good morning, my friend.", "response_format": "wav"}
    with sdk.audio.speech.with_streaming_response.create(**asked, extra_body={"seed": 1}) as spoken:
        assert spoken.headers["content-type"] == "audio/wav"
        spoken.stream_to_file(path)
    with path.open("rb") as recording:
        said = sdk.audio.transcriptions.create(model="whisper-base", file=recording, language="en")
    assert "good morning" in said.text.lower()


@pytest.mark.slow
def test_a_recording_is_written_down_whole_and_streamed(sdk: openai.OpenAI, jfk_wav: Path) -> None:
    heard = sdk.audio.transcriptions.create(
        model="whisper-base", file=jfk_wav, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert "ask not what your country can do for you" in heard.text.lower()
    assert heard.words
    events: list[Any] = list(sdk.audio.transcriptions.create(model="whisper-base", file=jfk_wav, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text.strip() == heard.text.strip()


def test_a_form_that_is_too_large_for_memory_is_passed_on(sdk: openai.OpenAI) -> None:
    """More than the megabyte that a server keeps in memory."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(48_000)
        sound.writeframes(bytes(2 * 2 * 48_000 * 12))
    said: Any = sdk.audio.transcriptions.create(model="echo", file=("quiet.wav", file.getvalue()))
    assert said.usage.seconds == 12


def test_pictures_whole_partial_and_edited(sdk: openai.OpenAI) -> None:
    asked: Any = {"model": "shapes", "prompt": "a red circle on a blue background", "extra_body": {"seed": 7}}
    [picture] = sdk.images.generate(**asked).data or ()
    events: list[Any] = list(sdk.images.generate(**asked, stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert events[-1].b64_json == picture.b64_json
    image = base64.b64decode(picture.b64_json or "")
    assert image.startswith(b"\x89PNG")
    edited: Any = sdk.images.edit(model="shapes", image=("a.png", image), prompt="a green circle", extra_body={"seed": 1})
    assert base64.b64decode(edited.data[0].b64_json).startswith(b"\x89PNG")


def test_errors_are_the_sdk_s_own(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model=CHAT, messages=QUESTION, temperature=9)
    assert (bad.value.param, bad.value.type) == ("temperature", "invalid_request_error")
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.chat.completions.create(model="no-such-model", messages=QUESTION)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as long:
        sdk.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "word " * 20_000}])
    assert long.value.code == "context_length_exceeded"


@pytest.mark.parametrize("scenario", ["whole", "stream", "streamUsage", "completion", "unknownModel", "badField"])
def test_the_npm_package(served: Any, node_folder: Path, scenario: str) -> None:
    command = ["node", "client.mjs", served.base_url, CHAT, scenario]
    done = subprocess.run(command, cwd=node_folder, check=True, capture_output=True, timeout=120)
    seen = json.loads(done.stdout)
    expected = {
        "whole": lambda: "Paris" in seen["text"] and seen["model"] == CHAT,
        "stream": lambda: "Paris" in seen["text"] and seen["ids"] == 1 and seen["usage"] == [],
        "streamUsage": lambda: [entry["choices"] for entry in seen["usage"]] == [[]],
        "completion": lambda: "four" in seen["text"],
        "unknownModel": lambda: (seen["status"], seen["code"]) == (404, "model_not_found"),
        "badField": lambda: (seen["status"], seen["param"]) == (400, "temperature"),
    }
    assert expected[scenario](), seen


# ---------------------------------------------------------------- both beside one another


@pytest.fixture
def both(servers: dict[str, Any]) -> Iterator[Callable[..., tuple[httpx2.Response, httpx2.Response]]]:
    """Send one request to both servers."""
    headers = {"authorization": f"Bearer {KEY}"}
    clients = [httpx2.Client(base_url=server.base_url, headers=headers, timeout=120) for server in servers.values()]

    def send(method: str, path: str, **fields: Any) -> tuple[httpx2.Response, httpx2.Response]:
        local, upstream = (client.request(method, path, **fields) for client in clients)
        return local, upstream

    yield send
    for client in clients:
        client.close()


def chat(**fields: Any) -> dict[str, Any]:
    return {"json": {"model": "echo", "messages": [{"role": "user", "content": "hi"}], **fields}}


def form(**fields: Any) -> dict[str, Any]:
    return {"data": fields, "files": {"file": ("a.wav", b"RIFF and nothing more")}}


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("/chat/completions", chat(temperature=9)),
    ("/chat/completions", chat(temperature="hot")),
    ("/chat/completions", chat(n=0)),
    ("/chat/completions", chat(messages=[])),
    ("/chat/completions", chat(messages=[{"role": "wizard", "content": "hi"}])),
    ("/chat/completions", chat(messages=[{"role": "user", "content": [{"type": "smell"}]}])),
    ("/chat/completions", chat(mode="nonsense")),
    ("/chat/completions", chat(stream="yes")),
    ("/chat/completions", chat(stream=True, tools=[{"type": "custom", "custom": {"name": "f"}}])),
    ("/chat/completions", chat(model="no-such-model")),
    ("/chat/completions", chat(model="echo:nonsense")),
    ("/chat/completions", chat(model=7)),
    ("/chat/completions", chat(model="")),
    ("/chat/completions", chat(model="all-minilm-l6-v2")),
    ("/chat/completions", chat(model=CHAT, messages=[{"role": "user", "content": "word " * 20_000}])),
    ("/chat/completions", chat(model=CHAT, stream=True, messages=[{"role": "user", "content": "word " * 20_000}])),
    ("/chat/completions", {"content": b"{", "headers": {"content-type": "application/json"}}),
    ("/chat/completions", {"content": b"[]", "headers": {"content-type": "application/json"}}),
    ("/chat/completions", {"content": b"", "headers": {"content-type": "application/json"}}),
    ("/chat/completions", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    ("/completions", {"json": {"model": "echo", "prompt": "hi", "best_of": 1, "n": 2}}),
    ("/embeddings", {"json": {"model": "all-minilm-l6-v2", "input": []}}),
    ("/embeddings", {"json": {"model": CHAT, "input": "hi"}}),
    ("/embeddings", {"json": {"model": "all-minilm-l6-v2", "input": "word " * 9_000}}),
    ("/audio/speech", {"json": {"model": "piper-joe", "voice": "nobody", "input": "hi"}}),
    ("/audio/speech", {"json": {"model": "echo", "voice": "alloy", "input": ""}}),
    ("/audio/transcriptions", form(model="whisper-base")),
    ("/audio/transcriptions", form(model="whisper-base", response_format="yaml")),
    ("/audio/transcriptions", form(model="no-such-model")),
    ("/audio/transcriptions", {"data": {"model": "whisper-base"}, "files": {"other": ("a", b"x")}}),
    ("/images/generations", {"json": {"model": "shapes", "prompt": "x", "size": "7x7"}}),
    ("/images/generations", {"json": {"model": CHAT, "prompt": "x"}}),
    ("/rerank", {"json": {"model": "echo", "query": "q", "documents": []}}),
    ("/nothing/here", {"json": {}}),
]


@pytest.mark.parametrize(("path", "request_"), WRONG, ids=range(len(WRONG)))
def test_an_error_is_the_same_field_by_field(both: Any, path: str, request_: dict[str, Any]) -> None:
    local, upstream = both("POST", path, **request_)
    assert local.status_code >= 400
    assert (upstream.status_code, upstream.json()) == (local.status_code, local.json())
    for name in ("content-type", "retry-after", "x-should-retry"):
        assert upstream.headers.get(name) == local.headers.get(name)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", chat()),
        ("/chat/completions", chat(stream=True, stream_options={"include_usage": True})),
        ("/chat/completions", chat(stream=True)),
        ("/completions", {"json": {"model": "echo", "prompt": ["a", "b"], "n": 2}}),
        ("/embeddings", {"json": {"model": "all-minilm-l6-v2", "input": "hello"}}),
        ("/audio/speech", {"json": {"model": "piper-joe", "voice": "alloy", "input": "Hello.", "response_format": "pcm"}}),
        ("/images/generations", {"json": {"model": "shapes", "prompt": "a red circle", "seed": 3}}),
    ],
    ids=["chat", "stream with usage", "stream", "completions", "embeddings", "speech", "picture"],
)
def test_an_answer_is_the_same_but_for_its_id_and_time(both: Any, path: str, body: dict[str, Any]) -> None:
    local, upstream = both("POST", path, **body)
    assert local.status_code == upstream.status_code == 200
    assert local.headers["content-type"] == upstream.headers["content-type"]
    assert settled(local) == settled(upstream)
    hidden = {"server", "date", "x-request-id", "openai-processing-ms", "content-length", "transfer-encoding"}
    assert set(upstream.headers) - hidden == set(local.headers) - hidden


def settled(answer: httpx2.Response) -> list[Any]:
    """What it says, without ids and times; events one by one."""
    if answer.headers["content-type"].startswith("audio/"):
        return [answer.content]
    lines = answer.text.split("\n\n") if "event-stream" in answer.headers["content-type"] else [answer.text]
    return [timeless(line.removeprefix("data: ")) for line in lines if line and not line.startswith(":")]


def timeless(text: str) -> Any:
    if text == "[DONE]":
        return text
    return {name: value for name, value in json.loads(text).items() if name not in ("id", "created")}


def test_both_list_the_same_models_and_say_where_they_are(both: Any) -> None:
    local, upstream = (answer.json()["data"] for answer in both("GET", "/models"))
    assert sorted(model["id"] for model in upstream) == sorted(model["id"] for model in local)
    assert {model["owned_by"] for model in upstream} == {"first"}
    capable = {model["id"]: set(model["capabilities"]) for model in local}
    assert {model["id"]: set(model["capabilities"]) for model in upstream} == capable
    one, other = both("GET", "/models/whisper-base")
    assert (one.json()["id"], one.json()["created"]) == (other.json()["id"], other.json()["created"])


def test_a_request_that_names_no_model_finds_the_same_one(both: Any) -> None:
    local, upstream = both("POST", "/images/generations", json={"prompt": "a red circle", "seed": 3})
    assert upstream.status_code == 200
    assert settled(local) == settled(upstream)


def test_unknown_fields_and_paths_reach_the_upstream_as_they_are(both: Any) -> None:
    local, upstream = both("POST", "/chat/completions", **chat(what_is_this={"a": [1, 2.50, "é"]}))
    assert (local.status_code, upstream.status_code) == (200, 200)


def test_the_client_s_own_key_stays_on_its_side(servers: dict[str, Any]) -> None:
    """The second server needs none, and what a client sends it is no key for the first."""
    url = f"{servers['upstream'].base_url}/chat/completions"
    answer = httpx2.post(url, headers={"authorization": "Bearer wrong"}, **chat())
    assert answer.status_code == 200
    assert httpx2.post(f"{servers['local'].base_url}/chat/completions", **chat()).status_code == 401
