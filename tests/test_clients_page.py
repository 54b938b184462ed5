"""docs/clients.md: every line of what clients send has its row, and every row tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES = 40
"""What was collected of clients; a new finding is a new row."""
TABLE = [line for line in (ROOT / "docs" / "clients.md").read_text().splitlines() if line.startswith("|")][2:]
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in TABLE]
TESTS = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[-1])})


@cache
def functions(path: str) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef))


def test_every_line_has_its_row_in_its_place() -> None:
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, len(ROWS) + 1)]
    assert len(ROWS) >= LINES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_what_clients_do_and_what_is_done_and_names_a_test(row: list[str]) -> None:
    assert len(row) == 4, "a row has four cells"
    _, sent, done, tests = row
    assert sent
    assert done
    assert re.fullmatch(r"(`tests/[\w/]+\.py::test_\w+` ?)+", tests), "a row without a test proves nothing"


@pytest.mark.parametrize("named", TESTS)
def test_a_row_names_a_test_that_exists(named: str) -> None:
    path, _, name = named.partition("::")
    assert (ROOT / path).is_file()
    assert name in functions(path)
