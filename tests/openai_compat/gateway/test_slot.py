"""What the log tells of a load."""

from __future__ import annotations

import logging

import pytest

from openai_compat.config import Model
from openai_compat.gateway.slot import Slot
from openai_compat.protocol import Progress


def test_a_load_tells_each_stage_once_and_each_quarter_of_it(caplog: pytest.LogCaptureFixture) -> None:
    slot = Slot("small", Model(source=""))
    with caplog.at_level(logging.INFO):
        slot.advance(Progress("reading the tokenizer"))
        for done in range(0, 101, 10):
            slot.advance(Progress("reading the weights", done * 2**20, 100 * 2**20))
        slot.advance(Progress("self-test"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "small: reading the tokenizer"
    assert [line.rpartition(", ")[2] for line in lines[1:-1]] == [
        f"{done} of 100 MiB" for done in ("0 B", "30.0 MiB", "50.0 MiB", "80.0 MiB", "100 MiB")
    ]
    assert lines[-1] == "small: self-test"
