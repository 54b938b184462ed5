"""Files and functions stay short enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("openai_compat", "handlers", "routes", "schemas", "training")
FILES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
FILE_LINES = 320
FUNCTION_LINES = 50


def lengths(path: Path) -> dict[str, int]:
    """Lines of each function, by name."""
    functions = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {node.name: node.end_lineno - node.lineno + 1 for node in functions}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_and_its_functions_are_short(path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES
    assert {name: lines for name, lines in lengths(path).items() if lines > FUNCTION_LINES} == {}


def test_the_usual_function_is_a_few_lines() -> None:
    assert median(lines for path in FILES for lines in lengths(path).values()) <= 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_left_for_later(path) -> None:
    assert not {"TODO", "FIXME", "HACK", "XXX"} & set(path.read_text().replace(":", " ").split())


def test_no_file_is_a_drawer() -> None:
    assert not {"utils", "helpers", "misc"} & {path.stem for path in FILES}
