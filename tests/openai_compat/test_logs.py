from __future__ import annotations

import io
import json
import logging
import os
import sys
import time

import pytest

from openai_compat import logs


@pytest.fixture
def stream():
    """Put the process's logging back as it was, since ``configure`` is for a process of its own."""
    root = logging.getLogger()
    uvicorn = logging.getLogger("uvicorn")
    before = (root.level, root.handlers[:], uvicorn.level, uvicorn.handlers[:])
    root.handlers = []
    yield io.StringIO()
    root.handlers = before[1]
    root.setLevel(before[0])
    uvicorn.setLevel(before[2])
    uvicorn.handlers = before[3]


def test_a_text_line_has_time_level_and_message(stream) -> None:
    logs.configure("info", "text", stream=stream)
    logging.getLogger("openai_compat.x").info("model %s ready", "a")
    assert stream.getvalue()[2] == ":"
    assert stream.getvalue()[8:] == " info    model a ready\n"


def test_a_message_can_neither_forge_a_line_nor_steer_a_terminal(stream) -> None:
    logs.configure("info", "text", stream=stream)
    logging.getLogger("openai_compat.x").info("GET /a\n12:00:00 info  forged\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert "\\n12:00:00" in stream.getvalue()


def test_json_lines_carry_the_fields_and_the_traceback(stream) -> None:
    logs.configure("info", "json", stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("openai_compat.x").error("no", exc_info=sys.exc_info(), extra={"fields": {"status": 500}})
    entry = json.loads(stream.getvalue())
    assert entry["message"] == "no"
    assert entry["level"] == "error"
    assert entry["status"] == 500
    assert "ValueError: broken" in entry["exception"]
    assert entry["time"].endswith("Z")


def test_the_level_holds_and_chatty_libraries_are_quiet(stream) -> None:
    logs.configure("warning", "text", stream=stream)
    logging.getLogger("openai_compat.x").info("unseen")
    logging.getLogger("uvicorn.error").info("unseen")
    logging.getLogger("uvicorn.error").warning("seen")
    assert "unseen" not in stream.getvalue()
    assert "seen" in stream.getvalue()


def test_a_log_that_nobody_reads_holds_nobody_up_and_says_later_what_was_lost(stream) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as kept, os.fdopen(writer, "w") as pipe:
        logs.configure("info", "text", stream=pipe)
        began = time.monotonic()
        for number in range(5000):
            logging.getLogger("x").info("line %d %s", number, "." * 200)
        assert time.monotonic() - began < 5.0
        full = os.read(kept.fileno(), 1 << 20)
        assert b"line 0 ." in full
        logging.getLogger("x").info("somebody reads again")
        rest = os.read(kept.fileno(), 1 << 20).decode().splitlines()
        assert rest[-1].endswith("somebody reads again")
        lost = int(rest[-2].partition(" ")[0])
        assert 4000 < lost < 5000


def test_a_log_whose_reader_has_gone_holds_nobody_up(stream) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        logs.configure("info", "text", stream=pipe)
        logging.getLogger("x").info("to nobody")


def test_a_line_longer_than_a_page_is_whole(stream) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as kept, os.fdopen(writer, "w") as pipe:
        logs.configure("info", "text", stream=pipe)
        logging.getLogger("x").info("é" * 20_000)
        assert os.read(kept.fileno(), 1 << 20).decode().count("é") == 20_000
