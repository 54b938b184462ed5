"""What the fuzzers once found, and what they begin with, for every reader of strangers' bytes."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READERS = sorted(path.stem for path in (HERE / "readers").glob("*.py"))
CASES = [(name, path.name) for name in READERS for path in sorted((HERE / "corpus" / name).iterdir())]
MOST = 64 << 10
"""Bytes of one reader's corpus."""


@pytest.fixture(scope="module")
def fuzz():
    """The properties of each reader, by its name."""
    return {name: runpy.run_path(str(HERE / "readers" / f"{name}.py"))["fuzz"] for name in READERS}


@pytest.mark.parametrize(("reader", "case"), CASES, ids=[f"{reader}-{case}" for reader, case in CASES])
def test_a_reader_holds(fuzz, reader, case) -> None:
    fuzz[reader]((HERE / "corpus" / reader / case).read_bytes())


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_holds_wherever_its_bytes_end(fuzz, reader) -> None:
    for path in sorted((HERE / "corpus" / reader).iterdir()):
        data = path.read_bytes()
        for end in range(0, len(data), max(1, len(data) // 24)):
            fuzz[reader](data[:end])


def test_every_corpus_has_its_reader_and_is_small() -> None:
    folders = sorted((HERE / "corpus").iterdir())
    assert [folder.name for folder in folders] == READERS
    assert [folder.name for folder in folders if sum(path.stat().st_size for path in folder.iterdir()) > MOST] == []
