"""SECURITY.md promises nothing without a test or a page, and whatever it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "SECURITY.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("|")][2:]
TESTS = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


def test_every_promise_has_its_proof() -> None:
    assert [row for row in ROWS if not re.search(r"`tests/|\]\(", row.split("|")[2])] == []


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_is_named_exists(name) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not function or function in functions


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md"])
def test_no_link_leads_nowhere(page) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / page).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md"])
def test_only_what_can_be_made_is_named(page) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text())) <= targets
