"""Memory that jobs leave behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from openai_compat.worker import leftovers
from openai_compat.worker.leftovers import Leftovers

MIB = 1 << 20


class Scale:
    """Says what it is told, and counts how often memory was given back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.held = 100
        self.after: int | None = None
        self.given = 0
        monkeypatch.setattr(leftovers, "give_back", self.give_back)

    def __call__(self) -> int:
        return self.held

    def give_back(self) -> None:
        self.given += 1
        self.held = self.held if self.after is None else self.after


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Scale:
    return Scale(monkeypatch)


def test_little_is_kept_for_the_next_job(scale: Scale) -> None:
    left = Leftovers(scale, large=50)
    left.settle()
    scale.held = 149
    assert not left.look()
    assert scale.given == 0


def test_much_is_given_back_each_time_as_far_as_it_goes(scale: Scale) -> None:
    left = Leftovers(scale, large=50)
    left.settle()
    for held in (150, 160):
        scale.held, scale.after = held, 110
        assert left.look()
    assert scale.given == 2
    scale.held = 155  # 110 are usual by now
    assert not left.look()


def test_what_a_model_keeps_for_good_is_not_asked_for_again(scale: Scale) -> None:
    left = Leftovers(scale, large=50)
    left.settle()
    scale.held = 400
    assert left.look()
    assert not left.look()


def test_what_cannot_be_given_back_of_a_gpu_is_not_asked_for_again(scale: Scale, monkeypatch: pytest.MonkeyPatch) -> None:
    unused = 0
    monkeypatch.setattr(leftovers, "_unused_on_gpus", lambda: unused)
    left = Leftovers(scale, large=50)
    left.settle()
    assert not left.look()
    unused = 70
    assert left.look()
    assert not left.look()
    unused = 121
    assert left.look()


def test_after_a_failure_everything_is_given_back(scale: Scale) -> None:
    left = Leftovers(scale, large=50)
    left.settle()
    left.failed()
    assert left.look()
    assert not left.look()


def test_what_was_freed_really_leaves_the_process() -> None:
    """In a process of its own: 256 MiB in pieces below a piece that stays, which the C library keeps by itself."""
    program = f"""
import ctypes, psutil
from openai_compat.worker.leftovers import Leftovers, _trim
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
held = psutil.Process().memory_info
left = Leftovers(large=64 * {MIB})
left.settle()
pieces = [libc.malloc(65_536) for _ in range(4096)]
for piece in pieces:
    ctypes.memset(piece, 1, 65_536)
top = libc.malloc(1024)
for piece in pieces:
    libc.free(piece)
before = held().rss
print(left.look(), _trim() is None, (before - held().rss) // {MIB})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    looked, cannot, freed = done.stdout.split()
    assert looked == "True"
    assert cannot == "True" or int(freed) > 200
