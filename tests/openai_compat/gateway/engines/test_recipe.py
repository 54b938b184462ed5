"""What an engine is started with, and how it is spoken to."""

from __future__ import annotations

import hashlib

import pytest

from handlers.types import ModelSpec
from openai_compat.config import Config, Engine, Model, Price, Server
from openai_compat.gateway.engines.recipe import as_upstream, write_recipe

KEY = "k" * 43


def recipe(model: Model, device: str = "cpu", **environment: str):
    return write_recipe(ModelSpec(id="m", path="", kind="command", device=device), model, environment, 4711, KEY)


def test_what_stands_in_braces_is_filled_in_and_other_braces_are_left() -> None:
    made = recipe(Model(command=("serve", "--at={host}:{port}", "{model}", '{"a": {"b": 1}}', "{{port}}", "{key_sha256}")))
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    assert made.command == ("serve", "--at=127.0.0.1:4711", "m", '{"a": {"b": 1}}', "{{port}}", digest)


def test_the_key_is_in_the_environment_under_our_name_and_any_other() -> None:
    made = recipe(Model(command=("serve",), environment={"VLLM_API_KEY": "{key}"}))
    assert made.environment["VLLM_API_KEY"] == made.environment["OPENAI_COMPAT_ENGINE_KEY"] == KEY


def test_of_our_environment_it_gets_what_programs_need() -> None:
    ours = {"PATH": "/bin", "LC_ALL": "C", "CUDA_HOME": "/cuda", "HF_TOKEN": "x", "OPENAI_API_KEY": "x", "SSH_AUTH_SOCK": "x"}
    made = recipe(Model(command=("serve",), environment={"HF_TOKEN": "mine"}), **ours)
    assert {name: made.environment.get(name) for name in ours} == {
        "PATH": "/bin", "LC_ALL": "C", "CUDA_HOME": "/cuda", "HF_TOKEN": "mine", "OPENAI_API_KEY": None, "SSH_AUTH_SOCK": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "device", "ours", "seen"),
    [
        ("auto", "cuda:1", {}, "1"),
        ("auto", "cuda:1", {"CUDA_VISIBLE_DEVICES": "5,7"}, "7"),
        ("auto", "cpu", {"CUDA_VISIBLE_DEVICES": "5,7"}, "5,7"),
        ("cpu", "cpu", {"CUDA_VISIBLE_DEVICES": "5,7"}, ""),
        ("auto", "cpu", {}, None),
    ],
)
def test_it_sees_the_gpu_on_which_its_memory_is_counted(setting: str, device: str, ours: dict[str, str], seen: str) -> None:
    made = recipe(Model(command=("serve",), device=setting), device, **ours)
    assert made.environment.get("CUDA_VISIBLE_DEVICES") == seen


def test_what_its_settings_say_of_gpus_wins() -> None:
    made = recipe(Model(command=("serve",), environment={"CUDA_VISIBLE_DEVICES": "0,1"}), "cuda:1")
    assert made.environment["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_it_is_an_upstream_with_one_model() -> None:
    engine = Engine(name="theirs", base_path="/api", capabilities=("embed_text",), max_in_flight=3)
    model = Model(command=("serve",), engine=engine, price=Price(prompt=1.0))
    made = as_upstream(Config(server=Server(request_timeout=77.0)), model, recipe(model))
    assert (made.base_url, made.headers) == ("http://127.0.0.1:4711/api", {"Authorization": f"Bearer {KEY}"})
    assert (made.max_in_flight, made.first_byte_timeout, made.idle_timeout) == (3, 77.0, 77.0)
    assert [(key, entry.name, entry.price.prompt) for key, entry in made.models.items()] == [("m", "theirs", 1.0)]
