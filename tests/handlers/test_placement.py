from __future__ import annotations

import itertools
import logging
from types import SimpleNamespace

import pytest
import torch

from handlers import placement
from handlers.types import ModelSpec
from openai_compat.errors import ModelUnavailable

CPU = torch.device("cpu")


def spec(**fields) -> ModelSpec:
    return ModelSpec(id="x", path="", kind="transformer", **fields)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def chosen(monkeypatch, seconds: dict[int, float], *, cores: int, **fields) -> int:
    """The number chosen on a machine where a step takes so long by threads."""
    monkeypatch.setattr(placement, "_usable_cores", lambda: cores)
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(placement.time, "perf_counter", lambda: clock.now)

    def step() -> None:
        clock.now += seconds[torch.get_num_threads()]

    return placement.set_threads(spec(**fields), step)


def test_threads_double_while_it_gains(monkeypatch, threads) -> None:
    assert chosen(monkeypatch, {1: 8.0, 2: 4.0, 4: 3.9}, cores=9) == 2
    assert torch.get_num_threads() == 2


def test_threads_that_lose_are_not_taken(monkeypatch, threads) -> None:
    assert chosen(monkeypatch, {1: 1.0, 2: 3.0}, cores=9) == 1


def test_one_core_is_left_to_the_server(monkeypatch, threads) -> None:
    assert chosen(monkeypatch, {1: 1.0}, cores=2) == 1
    assert chosen(monkeypatch, {1: 8.0, 2: 4.0, 4: 2.0}, cores=8) == 4


def test_a_configured_number_is_not_measured(monkeypatch, threads) -> None:
    assert chosen(monkeypatch, {}, cores=9, threads=3) == 3


def chosen_for_the_pool(monkeypatch, seconds: dict[int, list[float]], *, cores: int, **fields) -> tuple[int, int]:
    """The number chosen, and the number that was set last, where a step takes so long by threads, one time after the other."""
    monkeypatch.setattr(placement, "_usable_cores", lambda: cores)
    clock, used = SimpleNamespace(now=0.0), [0]
    monkeypatch.setattr(placement.time, "perf_counter", lambda: clock.now)
    took = {count: itertools.cycle(times) for count, times in seconds.items()}

    def step() -> None:
        clock.now += next(took[used[0]])

    return placement.set_pool_threads(spec(**fields), lambda count: used.__setitem__(0, count), [step]), used[0]


def test_the_pool_takes_the_most_threads_that_are_nearly_the_fastest(monkeypatch, threads) -> None:
    times = {1: [8.0], 2: [4.0], 4: [2.0], 6: [2.1]}
    assert chosen_for_the_pool(monkeypatch, times, cores=6) == (6, 6)
    assert chosen_for_the_pool(monkeypatch, times | {6: [2.3]}, cores=6) == (4, 4)
    assert chosen_for_the_pool(monkeypatch, {1: [8.0], 2: [9.0]}, cores=2) == (1, 1)
    assert torch.get_num_threads() == 1


def test_a_busy_moment_decides_nothing_about_the_pool(monkeypatch, threads, caplog) -> None:
    with caplog.at_level(logging.INFO):
        assert chosen_for_the_pool(monkeypatch, {1: [8.0], 2: [30.0, 30.0, 30.0, 4.0]}, cores=2) == (2, 2)
    assert caplog.messages == ["'x' computes on 2 threads: measured were 8000.0 ms on 1, 4000.0 ms on 2"]


def test_a_configured_number_of_pool_threads_is_not_measured(monkeypatch, threads) -> None:
    assert chosen_for_the_pool(monkeypatch, {}, cores=9, threads=3) == (3, 3)
    assert chosen_for_the_pool(monkeypatch, {}, cores=1) == (1, 1)


def test_auto_keeps_full_precision_and_takes_bfloat16_only_where_the_processor_has_it(monkeypatch) -> None:
    assert placement.dtype_of(spec(), "float32", CPU) == torch.float32
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    expected = torch.bfloat16 if fast else torch.float32
    assert placement.dtype_of(spec(), "bfloat16", CPU) == placement.dtype_of(spec(), "float16", CPU) == expected


def test_a_configured_dtype_is_taken_and_an_unknown_one_refused() -> None:
    assert placement.dtype_of(spec(dtype="float16"), "float32", CPU) == torch.float16
    with pytest.raises(ModelUnavailable, match="int3"):
        placement.dtype_of(spec(dtype="int3"), "float32", CPU)


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ModelUnavailable, match=name):
        placement.device_of(spec(device=name))


def test_the_processor_is_always_there() -> None:
    assert placement.device_of(spec(device="cpu")) == CPU
