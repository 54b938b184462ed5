"""What the fuzzers once found, and what they begin with, for every reader of strangers' bytes."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READERS = sorted(path.stem for path in (HERE / "readers").glob("*.py"))
CASES = [(name, path.name) for name in READERS for path in sorted((HERE / "corpus" / name).iterdir())]
LONGEST, HEAD, SHORTEST = 32 << 10, 64, 0.0005  # bytes, bytes that choose what is done, seconds
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


@pytest.mark.parametrize("reader", READERS)
def test_time_grows_no_faster_than_the_bytes(fuzz, reader) -> None:
    """A quadratic reader takes 256 times as long for 16 times as much, a good one 16 times; a busy machine has room between."""
    for path in sorted((HERE / "corpus" / reader).iterdir()):
        data = path.read_bytes()[:LONGEST]
        head, tail = data[:HEAD], data[HEAD:]
        short, long = (head + tail * (times * LONGEST // max(len(data), 1) // 16) for times in (1, 16))
        assert cost(fuzz[reader], long) < 80 * max(cost(fuzz[reader], short), SHORTEST), path.name


def cost(fuzz, data) -> float:
    """Seconds of this process's own time, the least of three."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        fuzz(data)
        taken.append(time.process_time() - began)
    return min(taken)


def test_every_corpus_has_its_reader_and_is_small() -> None:
    folders = sorted((HERE / "corpus").iterdir())
    assert [folder.name for folder in folders] == READERS
    assert [folder.name for folder in folders if sum(path.stat().st_size for path in folder.iterdir()) > MOST] == []
