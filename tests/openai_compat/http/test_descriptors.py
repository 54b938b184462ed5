"""How many open files the server takes for its connections, in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from openai_compat.http.descriptors import allow
soft, hard, connections = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(allow(connections), resource.getrlimit(resource.RLIMIT_NOFILE)[0], sep="|")
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")


def allowed(soft: int, hard: int, connections: int) -> tuple[str, int]:
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(connections)]
    said, limit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("|")
    return said, int(limit)


def test_a_limit_that_is_high_enough_stays() -> None:
    assert allowed(900, 1000, 300) == ("", 900)


def test_one_that_is_too_low_is_raised() -> None:
    assert allowed(300, 2000, 500) == ("", 1256)


def test_one_that_cannot_be_raised_so_far_is_told() -> None:
    assert allowed(300, 400, 500) == (
        "500 connections (server.max_connections) need 1256 open files, and this process may have 400",
        400,
    )
