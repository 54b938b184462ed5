"""docs/handlers.md: every verb and mode of every handler has rows, and every test that a row names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from handlers.registry import KINDS, resolve
from handlers.types import VERBS

ROOT = Path(__file__).parent.parent
ROW = re.compile(
    r"^\| `(?P<kind>\w+)` \| `(?P<verb>\w+)`( \| `(?P<mode>\w+)`)? \| (?P<checkpoint>[^|`]+) \| `(?P<test>[^|`]+)` \|$",
    re.MULTILINE,
)
ROWS = [match.groupdict() for match in ROW.finditer((ROOT / "docs" / "handlers.md").read_text())]
MODES = [(kind, mode) for kind in KINDS for mode in resolve(kind).modes]
PAIRS = [(kind, verb) for kind in KINDS for verb in VERBS if verb in resolve(kind).overridden_verbs()]


@pytest.mark.parametrize(("kind", "verb"), PAIRS)
def test_a_verb_is_proved_on_two_checkpoints(kind: str, verb: str) -> None:
    checkpoints = {row["checkpoint"] for row in ROWS if (row["kind"], row["verb"], row["mode"]) == (kind, verb, None)}
    assert len(checkpoints) >= (1 if kind == "echo" else 2), f"docs/handlers.md shows {checkpoints or 'nothing'}"


@pytest.mark.parametrize(("kind", "mode"), MODES)
def test_a_mode_is_proved(kind: str, mode: str) -> None:
    assert any((row["kind"], row["mode"]) == (kind, mode) for row in ROWS), "docs/handlers.md shows no test of it"


@pytest.mark.parametrize("named", sorted({row["test"] for row in ROWS}))
def test_a_row_names_a_test_that_exists(named: str) -> None:
    path, _, name = named.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_tells_of_a_verb_and_a_mode_that_there_are() -> None:
    assert ROWS
    assert {(row["kind"], row["verb"]) for row in ROWS} <= set(PAIRS)
    assert {(row["kind"], row["mode"]) for row in ROWS if row["mode"]} <= set(MODES)
