"""Handlers, loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from handlers import types as t
from handlers.transformer import TransformerHandler


class Collector:
    """A run context that keeps what is emitted, and may refuse to go on after some steps."""

    def __init__(self, *, checks: int | None = None, emits: int | None = None, error: type[Exception] = KeyError) -> None:
        self.deltas: list[t.Delta] = []
        self.checks = 0
        self._most_checks = checks
        self._most_emits = emits
        self._error = error

    def emit(self, delta: t.Delta) -> None:
        self.deltas.append(delta)
        if self._most_emits is not None and len(self.deltas) >= self._most_emits:
            raise self._error

    def check(self) -> None:
        self.checks += 1
        if self._most_checks is not None and self.checks > self._most_checks:
            raise self._error

    def text(self, index: int = 0) -> str:
        return "".join(d.text for d in self.deltas if isinstance(d, t.TextDelta) and d.index == index)


def load(folder: Path, **changes: object) -> TransformerHandler:
    spec = t.ModelSpec(id="tiny", path=str(folder), kind="transformer", **{"device": "cpu", "threads": 1, **changes})
    handler = TransformerHandler(spec)
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


@pytest.fixture(scope="session")
def snapshot(tiny_llama: Path) -> Path:
    return tiny_llama


@pytest.fixture(scope="session")
def base_snapshot(tmp_path_factory: pytest.TempPathFactory, saver: Callable[..., Path]) -> Path:
    return saver(tmp_path_factory.mktemp("tiny-base"), template=None)


@pytest.fixture(scope="session")
def tiny(snapshot: Path) -> TransformerHandler:
    return load(snapshot)


@pytest.fixture(scope="session")
def base(base_snapshot: Path) -> TransformerHandler:
    """The same model without a chat template."""
    return load(base_snapshot)


@pytest.fixture
def collector() -> Callable[..., Collector]:
    return Collector


@pytest.fixture(scope="session")
def loader() -> Callable[..., TransformerHandler]:
    return load


@pytest.fixture(scope="session")
def smollm2(smollm2_folder: Path) -> TransformerHandler:
    """The real model, in numbers whose answer does not hang on a processor."""
    return load(smollm2_folder, context_length=None, dtype="float32")
