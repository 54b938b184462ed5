"""What a new process of ours keeps of the one that started it."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os, sys
from openai_compat.worker.descriptors import close_inherited
close_inherited()
print(*sorted(int(name) for name in os.listdir("/dev/fd")))
os.fstat(int(sys.argv[1]))
"""


def test_only_the_standard_streams_are_kept() -> None:
    read, write = os.pipe()
    try:
        command = [sys.executable, "-P", "-c", PROGRAM, str(write)]
        ended = subprocess.run(command, pass_fds=(read, write), capture_output=True, text=True, check=False)
    finally:
        os.close(read)
        os.close(write)
    assert [number for number in ended.stdout.split() if int(number) in (read, write)] == []
    assert "Bad file descriptor" in ended.stderr
