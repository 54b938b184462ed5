"""Handlers of other distributions are asked outside: what they import, print or break stays there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from handlers.types import ModelSpec
from openai_compat.gateway.facts import facts_of

PLUGIN = """
import os
import sys
from handlers import types as t
from handlers.base import BaseHandler
print("imported and talkative")
sys.modules["torch"] = sys

class Plugged(BaseHandler):
    def load_model(self, report): ...

    @classmethod
    def validate_model_files(cls, spec):
        return tuple(spec.options.get("problems", ()))

    @classmethod
    def analyze(cls, spec):
        if os.environ.get("OPENAI_COMPAT_API_KEY"):
            raise ValueError("knows the server's key")
        if spec.options.get("crash"):
            raise ValueError("inside")
        print("analysing")
        return t.Analysis(architecture="plugged", parameters=3, dtype="float32", bytes_per_dtype={}, load_bytes=5)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with an entry point, found by this process and by its children."""
    (tmp_path / "plugged_handler.py").write_text(PLUGIN)
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[openai_compat.handlers]\nplugged = plugged_handler:Plugged\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def spec(kind: str, **options: object) -> ModelSpec:
    return ModelSpec(id="m", path="", kind=kind, options=options)


def test_a_builtin_handler_is_asked_here() -> None:
    facts = facts_of(spec("echo"))
    assert facts.analysis is not None
    assert facts.analysis.architecture == "echo"


@pytest.mark.usefixtures("plugin")
def test_a_foreign_handler_is_asked_in_a_process_of_its_own() -> None:
    facts = facts_of(spec("plugged"))
    assert facts.analysis is not None
    assert (facts.analysis.architecture, facts.analysis.load_bytes) == ("plugged", 5)
    assert "plugged_handler" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_a_foreign_handler_is_not_told_the_servers_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_COMPAT_API_KEY", "secret")
    assert facts_of(spec("plugged")).problems == ()


@pytest.mark.usefixtures("plugin")
def test_problems_that_it_finds_come_back() -> None:
    assert facts_of(spec("plugged", problems=["a: is missing"])).problems == ("a: is missing",)


@pytest.mark.usefixtures("plugin")
def test_one_that_breaks_is_a_problem_without_its_inside() -> None:
    facts = facts_of(spec("plugged", crash=True))
    assert facts.problems == ("The handler of kind 'plugged' failed while it was asked for facts.",)


def test_an_unknown_kind_is_a_problem() -> None:
    assert "no handler of kind 'odd'" in facts_of(spec("odd")).problems[0]
