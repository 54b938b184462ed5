"""Which items run together, in which order, and what one request's trouble means for the others."""

from __future__ import annotations

import random

import pytest

from handlers.deferred import complete
from handlers.encoding.batcher import Batcher, Item
from openai_compat.errors import APIError


class Context:
    def __init__(self) -> None:
        self.error: Exception | None = None

    def emit(self, delta) -> None: ...

    def check(self) -> None:
        if self.error is not None:
            raise self.error


class Recorder:
    """Runs nothing, remembers each batch, and answers ``("done", input)``."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.broken: set[str] = set()
        self.wrong: set[str] = set()

    def __call__(self, lane: str, inputs: list[str]) -> list[object]:
        self.batches.append(inputs)
        if self.broken & set(inputs):
            raise RuntimeError("broken")
        return [APIError("wrong") if text in self.wrong else ("done", text) for text in inputs]


def items(*names: str, lane: str = "text") -> list[Item]:
    """``"a7"`` has length 7."""
    return [Item(lane=lane, length=int(name[1:]), inputs=name) for name in names]


@pytest.fixture
def run() -> Recorder:
    return Recorder()


def submit(batcher: Batcher, *names: str, ctx: Context | None = None, lane: str = "text"):
    return batcher.submit(items(*names, lane=lane), ctx or Context(), list)


def test_outputs_come_in_the_order_of_the_items(run):
    batcher = Batcher(run, budget=20)
    ticket = submit(batcher, "a9", "b2", "c5", "d2")
    assert complete(ticket) == [("done", name) for name in ("a9", "b2", "c5", "d2")]


def test_requests_that_wait_share_one_forward(run):
    batcher = Batcher(run, budget=100)
    tickets = [submit(batcher, f"{name}5") for name in "abc"]
    batcher.step()
    assert [ticket.poll() for ticket in tickets] == [[("done", f"{name}5")] for name in "abc"]
    assert len(run.batches) == 1


def test_a_batch_keeps_to_the_budget_padding_counted(run):
    batcher = Batcher(run, budget=30)
    rng = random.Random(1)
    tickets = [submit(batcher, *(f"x{rng.randint(1, 12)}" for _ in range(20))) for _ in range(5)]
    for ticket in tickets:
        complete(ticket)
    assert all(max(int(name[1:]) for name in batch) * len(batch) <= 30 for batch in run.batches)
    assert sum(map(len, run.batches)) == 100


def test_alike_lengths_run_together(run):
    batcher = Batcher(run, budget=40)
    ticket = submit(batcher, *["s2"] * 10, *["l20"] * 2, *["s2"] * 10)
    complete(ticket)
    assert sorted(map(sorted, run.batches)) == [["l20"] * 2, ["s2"] * 20]


def test_an_item_longer_than_the_budget_runs_alone(run):
    batcher = Batcher(run, budget=10)
    complete(submit(batcher, "a50", "b49", "c1"))
    assert ["a50"] in run.batches
    assert ["b49"] in run.batches


def test_a_small_request_does_not_wait_for_the_end_of_a_large_one(run):
    batcher = Batcher(run, budget=10)
    large = submit(batcher, *["x10"] * 50)
    small = submit(batcher, "y3")
    for _ in range(2):
        batcher.step()
    assert small.poll() == [("done", "y3")]
    assert large.poll() is None


def test_a_small_request_that_comes_during_a_large_one_has_the_next_turn(run):
    batcher = Batcher(run, budget=10)
    large = submit(batcher, *["x10"] * 50)
    for i in range(3):
        batcher.step()
        small = submit(batcher, f"{'abc'[i]}3")
        batcher.step()
        assert small.poll() is not None
    assert sum("x10" in batch for batch in run.batches) == 3
    assert large.poll() is None


def test_an_odd_length_is_not_starved_by_a_stream_of_others(run):
    batcher = Batcher(run, budget=20)
    odd = submit(batcher, "z19")
    for i in range(5):
        submit(batcher, *[f"{'abcde'[i]}2"] * 10)
        batcher.step()
    assert odd.poll() is not None


def test_lanes_do_not_mix(run):
    batcher = Batcher(run, budget=100)
    pair = batcher.submit([*items("a5"), *items("b5", lane="image")], Context(), list)
    assert complete(pair) == [("done", "a5"), ("done", "b5")]
    assert sorted(run.batches) == [["a5"], ["b5"]]


def test_a_cancelled_request_is_gone_with_the_next_step(run):
    batcher = Batcher(run, budget=10)
    ctx = Context()
    unwanted, wanted = submit(batcher, *["x10"] * 50, ctx=ctx), submit(batcher, "y10")
    ctx.error = InterruptedError()
    complete(wanted)
    with pytest.raises(InterruptedError):
        unwanted.poll()
    assert run.batches == [["y10"]]
    batcher.step()
    assert run.batches == [["y10"]]


def test_an_item_that_goes_wrong_fails_its_own_request_alone(run):
    batcher = Batcher(run, budget=100)
    run.wrong = {"b5"}
    good, bad = submit(batcher, "a5"), submit(batcher, "b5", "c90")
    batcher.step()
    assert good.poll() == [("done", "a5")]
    with pytest.raises(APIError, match="wrong"):
        bad.poll()
    batcher.step()
    assert len(run.batches) == 1


def test_a_forward_that_breaks_is_tried_again_for_each_request_alone(run):
    batcher = Batcher(run, budget=100)
    run.broken = {"b5"}
    good, bad = submit(batcher, "a5", "c5"), submit(batcher, "b5")
    batcher.step()
    assert good.poll() == [("done", "a5"), ("done", "c5")]
    with pytest.raises(RuntimeError, match="broken"):
        bad.poll()


def test_a_step_without_work_does_nothing(run):
    Batcher(run, budget=10).step()
    assert run.batches == []
