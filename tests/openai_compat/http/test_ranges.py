"""One range of a file, or the file: what a client may send as ``Range``, and what comes of it."""

from __future__ import annotations

import time

import pytest

from openai_compat.http.ranges import asked_range


@pytest.mark.parametrize(
    ("header", "places"),
    [
        ("bytes=0-", (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000000000000000000", (90, 100)),
        ("bytes=99-", (99, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-100", (0, 100)),
        ("bytes=-1000", (0, 100)),
    ],
)
def test_one_range_is_given_as_it_is_asked_for_and_no_further_than_the_file(header, places) -> None:
    assert asked_range(header, 100) == range(*places)


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=-0", "bytes=100-", "bytes=20-10", "bytes=0-1,2-3", "bytes=0-1,",
     "bytes=a-b", "bytes= 0-1", "bytes=0-1 ", "bytes=0-1\n", "Bytes=0-1", "items=0-1", "bytes=--1", "bytes=+1-2", "bytes=0-0-0",
     "bytes=1-2-", "bytes=\u0661-\u0662", "bytes=" + "9" * 20 + "-"],
)  # fmt: skip
def test_whatever_else_is_said_the_file_is_sent_whole(header) -> None:
    assert asked_range(header, 100) is None


def test_of_nothing_there_is_no_range() -> None:
    for header in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        assert asked_range(header, 0) is None


def test_a_long_header_takes_no_time() -> None:
    headers = [
        "bytes=" + "0-1," * 1_000_000,
        "bytes=" + "0" * 1_000_000,
        "bytes=" + "-" * 1_000_000,
        "bytes=0-" + " " * 1_000_000,
    ]
    began = time.process_time()
    for header in headers * 100:
        assert asked_range(header, 100) is None
    assert time.process_time() - began < 0.5
