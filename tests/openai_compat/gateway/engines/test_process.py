"""What an engine prints, and what its processes hold."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import psutil
import pytest

from openai_compat.gateway.engines.process import EngineProcess, MemoryGauge
from openai_compat.gateway.engines.recipe import Recipe

KEY = "k" * 43


def lines_of(program: str) -> tuple[int, tuple[str, ...]]:
    recipe = Recipe(
        model_id="m", command=(sys.executable, "-c", program), environment={"PATH": os.environ["PATH"]}, port=1, key=KEY
    )

    async def run() -> tuple[int, tuple[str, ...]]:
        process = await EngineProcess.start(recipe)
        status = await process.wait()
        return status, process.last_lines

    return asyncio.run(run())


def test_its_last_lines_are_kept_whatever_comes_before_them() -> None:
    status, lines = lines_of("print('x' * 5_000_000); [print(n) for n in range(100)]; print('the end', end='')")
    assert status == 0
    assert lines == (*map(str, range(81, 100)), "the end")


def test_output_without_ends_of_lines_fills_no_memory() -> None:
    _, lines = lines_of("import sys; [sys.stdout.write('y' * 100_000) for _ in range(100)]")
    assert 0 < len(lines) <= 20
    assert max(map(len, lines)) <= 500


def test_both_its_outputs_are_logged_and_its_key_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "openai_compat.gateway.engines.process"):
        lines_of(f"import sys; print('out {KEY}', flush=True); print('err \\xff', file=sys.stderr)")
    assert [record.getMessage() for record in caplog.records] == ["m: out [key]", "m: err ÿ"]


def test_its_memory_counts_all_its_processes_and_none_that_are_gone() -> None:
    child = "import sys, time; data = bytearray(b'x') * 50_000_000; print(1, flush=True); sys.stdin.read()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with psutil.Popen([sys.executable, "-c", parent], stdin=-1, stdout=-1) as process:
        assert process.stdout.readline() == b"1\n"
        assert MemoryGauge(process.pid).read().host > 50_000_000
        process.stdin.close()
    assert MemoryGauge(process.pid).read().host == 0
