"""docs/advisories.md: every kind of accident has a guard and a test, and whatever a row names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLASSES = (
    "repo code runs",
    "pickle",
    "template / SSTI",
    "SSRF / media fetch",
    "media bombs and parsers",
    "unbounded numbers",
    "grammar/regex",
    "auth",
    "HTTP layer",
    "model file parsers",
    "cross-request leak",
    "supply chain",
)
LINES = [line for line in (ROOT / "docs" / "advisories.md").read_text().splitlines() if line.startswith("|")][2:]
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in LINES]
TESTS = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[-1])})


@cache
def functions(path: str) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("kind", CLASSES)
def test_every_kind_of_accident_has_a_row(kind: str) -> None:
    assert [row for row in ROWS if row[0].startswith(f"**{kind}**: ")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_row_says_what_happened_names_a_guard_that_is_there_and_a_test(row: list[str]) -> None:
    assert len(row) == 3, "a row has three cells"
    happened, guard, tests = row
    assert any(happened.startswith(f"**{kind}**: ") for kind in CLASSES)
    files = [name for name in re.findall(r"`([^`]+)`", guard) if re.fullmatch(r"[\w./-]+\.\w+|Makefile|Dockerfile", name)]
    assert files, "a row names the file of its guard"
    assert [name for name in files if not (ROOT / name).is_file()] == []
    assert re.findall(r"`tests/[^`]+::test_\w+`", tests), "a row without a test proves nothing"


@pytest.mark.parametrize("named", TESTS)
def test_a_row_names_a_test_that_exists(named: str) -> None:
    path, _, name = named.partition("::")
    assert (ROOT / path).is_file()
    assert name.partition("[")[0] in functions(path)


def test_no_row_stands_there_twice() -> None:
    happened = [row[0] for row in ROWS]
    assert sorted(happened) == sorted(set(happened))
