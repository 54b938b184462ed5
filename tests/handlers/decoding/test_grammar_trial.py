"""Grammars are tried where they can be stopped."""

from __future__ import annotations

import json
import os
import time

import psutil
import pytest

from handlers.decoding import grammar_library as library
from handlers.decoding.grammar_trial import TOO_COMPLEX, Trial

TOKENS = library.Tokens((*(bytes([i]) for i in range(256)), b"<end>"), (256,), (256,))
ENDLESS = {"allOf": [{"type": "string", "pattern": f"a.{{{i}}}b"} for i in range(30)]}


def schema(value: object) -> str:
    return library.of_json_schema(json.dumps(value))


@pytest.fixture
def trial():
    trial = Trial(TOKENS, seconds=1.0)
    yield trial
    trial.close()


def children() -> set[int]:
    return {child.pid for child in psutil.Process(os.getpid()).children() if child.status() != psutil.STATUS_ZOMBIE}


def test_a_good_grammar_has_no_problem_and_a_size(trial) -> None:
    verdict = trial.judge(schema({"type": "object"}))
    assert verdict.problem == ""
    assert verdict.size >= 0


def test_a_bad_grammar_is_told_in_the_librarys_words(trial) -> None:
    assert "uniqueItems" in trial.judge(schema({"uniqueItems": True})).problem


def test_what_takes_too_long_is_stopped_and_the_next_is_tried_anew(trial) -> None:
    trial.judge(schema({}))
    before = time.monotonic()
    assert trial.judge(schema(ENDLESS)).problem == TOO_COMPLEX
    assert time.monotonic() - before < 20
    assert trial.judge(schema({"type": "integer"})).problem == ""


def test_what_takes_too_much_memory_is_stopped() -> None:
    trial = Trial(TOKENS, seconds=60.0, memory=32 << 20)
    assert trial.judge(schema({"type": "integer", "multipleOf": 999_983})).problem == TOO_COMPLEX
    trial.close()


def test_no_process_stays_behind(trial) -> None:
    before = children()
    trial.judge(schema({}))
    assert len(children() - before) == 1
    trial.close()
    assert children() == before


def test_the_process_ends_with_the_object_that_holds_it() -> None:
    before = children()
    trial = Trial(TOKENS)
    trial.judge(schema({}))
    del trial
    assert children() == before
