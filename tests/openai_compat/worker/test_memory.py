import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from openai_compat.protocol import Memory
from openai_compat.worker import memory
from openai_compat.worker.memory import Gauge, measure

TAKING = """
from openai_compat.worker.memory import measure
before = measure().host
block = bytearray(b"x" * (64 * 2**20))
print(measure().host - before)
"""


def test_memory_that_is_taken_is_seen():
    """In a process of its own: what one shares with its children counts for more when they end."""
    seen = subprocess.run([sys.executable, "-c", TAKING], check=True, capture_output=True, text=True).stdout
    assert 48 * 2**20 < int(seen) < 128 * 2**20


@pytest.mark.parametrize(
    ("full", "expected"),
    [(SimpleNamespace(pss=3, uss=2, rss=9), 3), (SimpleNamespace(uss=2, rss=9), 2), (psutil.AccessDenied(), 9)],
    ids=["linux", "macos", "not allowed"],
)
def test_the_best_number_that_the_system_gives_is_used(monkeypatch, full, expected):
    class Process:
        def memory_full_info(self):
            if isinstance(full, Exception):
                raise full
            return full

        def memory_info(self):
            return SimpleNamespace(rss=9)

    monkeypatch.setattr(memory.psutil, "Process", Process)
    assert measure().host == expected


def fake_torch(initialised: bool):
    reserved = [5, 0, 7]
    cuda = SimpleNamespace(
        is_initialized=lambda: initialised, device_count=lambda: 3, memory_reserved=lambda index: reserved[index]
    )
    return SimpleNamespace(cuda=cuda)


def test_devices_are_asked_only_once_cuda_is_in_use(monkeypatch):
    monkeypatch.setitem(memory.sys.modules, "torch", fake_torch(False))
    assert measure().devices == {}
    monkeypatch.setitem(memory.sys.modules, "torch", fake_torch(True))
    assert measure().devices == {"cuda:0": 5, "cuda:2": 7}
    monkeypatch.delitem(memory.sys.modules, "torch")
    assert measure().devices == {}


def test_a_costly_measurement_is_renewed_less_often(monkeypatch):
    now = [0.0]
    taken = []

    def slow() -> Memory:
        now[0] += 2.0
        taken.append(now[0])
        return Memory(host=len(taken))

    monkeypatch.setattr(memory, "measure", slow)
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    gauge = Gauge()
    assert gauge.read().host == 1
    now[0] += 99.0
    assert gauge.read().host == 1
    now[0] += 2.0
    assert gauge.read().host == 2
