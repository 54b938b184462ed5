from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from handlers import registry
from handlers.base import BaseHandler
from handlers.echo import EchoHandler
from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable


class PluginHandler(BaseHandler):
    def load_model(self, report) -> None:
        report("nothing")


NOT_A_HANDLER = object()


@pytest.fixture
def plugins(monkeypatch):
    def use(**points: str) -> None:
        found = EntryPoints(EntryPoint(name, value, registry.GROUP) for name, value in points.items())
        monkeypatch.setattr(registry, "entry_points", lambda group: found)

    monkeypatch.setitem(sys.modules, "plugin_for_test", sys.modules[__name__])
    return use


@pytest.mark.parametrize("module", ["handlers.registry", "handlers.echo", "handlers.transformer", "handlers.modes"])
def test_importing_a_handler_brings_no_heavy_library(module: str) -> None:
    code = f"import {module}, sys; print([m for m in ('torch', 'transformers', 'numpy', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_built_in_kind_resolves_to_a_handler() -> None:
    for kind in registry.KINDS:
        assert issubclass(registry.resolve(kind), BaseHandler)
        assert registry.is_builtin(kind)


def test_an_unknown_kind_is_unavailable_and_names_the_known_ones() -> None:
    with pytest.raises(ModelUnavailable, match=r"'nope'.*echo.*transformer"):
        registry.resolve("nope")


def test_an_entry_point_is_listed_without_being_imported(plugins) -> None:
    plugins(mine="no_such_module:Handler")
    assert registry.kinds() == (*registry.KINDS, "mine")
    assert not registry.is_builtin("mine")
    assert "no_such_module" not in sys.modules


def test_an_entry_point_is_resolved_on_first_use(plugins) -> None:
    plugins(mine="plugin_for_test:PluginHandler")
    assert registry.resolve("mine") is PluginHandler


def test_a_built_in_kind_wins_over_an_entry_point(plugins) -> None:
    plugins(echo="plugin_for_test:PluginHandler")
    assert registry.resolve("echo") is EchoHandler
    assert registry.kinds() == tuple(registry.KINDS)


@pytest.mark.parametrize("value", ["no_such_module:Handler", "plugin_for_test:Missing", "plugin_for_test:NOT_A_HANDLER"])
def test_a_broken_entry_point_is_unavailable(plugins, value: str) -> None:
    plugins(mine=value)
    with pytest.raises(ModelUnavailable, match="mine"):
        registry.resolve("mine")


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel", "Qwen3MoeForCausalLM"])
def test_causal_models_are_detected(tmp_path: Path, architecture: str) -> None:
    (tmp_path / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
    assert registry.detect(str(tmp_path)) == "transformer"
    assert type(registry.create(ModelSpec(id="x", path=str(tmp_path), kind="auto"))).__name__ == "TransformerHandler"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"architectures": ["UnheardOfModel"]}', "UnheardOfModel"),
        ("{}", "names no architecture"),
        ('{"architectures": null}', "names no architecture"),
        ("[1]", "names no architecture"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (None, "no config.json"),
    ],
    ids=["unknown", "none", "null", "list", "broken", "deep", "missing"],
)
def test_what_cannot_be_detected_is_unavailable_with_the_reason(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelUnavailable, match=reason) as caught:
        registry.detect(str(tmp_path))
    assert str(tmp_path) not in caught.value.message
