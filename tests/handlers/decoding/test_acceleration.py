"""A step's work reaches the device without anybody waiting for it, and recordings are left alone where they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from handlers.decoding import acceleration, layouts, ranking, sampler, sizing
from handlers.decoding.acceleration import Acceleration, agrees, find
from handlers.decoding.cache import LayerShape
from handlers.decoding.decode_graphs import DecodeGraphs, Recording, _Step
from handlers.decoding.flash import OWN
from handlers.decoding.probe import Verdict, probe
from handlers.decoding.sizing import EngineOptions
from handlers.decoding.transfer import Arriving, place

WAITING = ("tolist", "item", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__")
ASKED = [
    {"temperature": 0.0},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 1.1, "seed": 2, "min_p": 0.02},
    {"temperature": 0.8, "seed": 3, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    {"temperature": 0.0, "repetition_penalty": 1.3, "logit_bias": {9: 3.0}},
    {"temperature": 0.7, "seed": 4, "logprobs": 3},
    {"temperature": 0.0, "min_tokens": 4, "n": 2},
]


@pytest.fixture
def recording(reload, family):
    """A model whose decodes are recorded by a function, and whose tokens are read a step later."""

    def make(record: Callable[..., Callable[[], None]]):
        model = reload(family("llama"))
        engine = model.handler._engine
        forward = engine._forward
        forward._graphs = DecodeGraphs(forward._model, forward.cache, forward._layouts, record)
        engine._ahead = True
        return model

    return make


def finish(engine, asked) -> int:
    steps = 0
    while any(one.poll() is None for one in asked):
        engine.step()
        steps += 1
    return steps


@pytest.fixture
def watched(monkeypatch):
    """A call during which it is noted where a tensor is asked for a number, which on a GPU would be to wait for it."""

    def watch(call: Callable, noted: list[str]) -> Callable:
        def inner(*given):
            with monkeypatch.context() as patch:
                for name in WAITING:
                    original = getattr(torch.Tensor, name)
                    patch.setattr(torch.Tensor, name, lambda *a, _n=name, _o=original: noted.append(_n) or _o(*a))
                return call(*given)

        return inner

    return watch


@pytest.mark.parametrize(("asked", "waits"), [(ASKED, False), ([{"top_p": 0.5, "seed": 1}], True)], ids=["these", "top_p here"])
def test_a_step_is_started_without_waiting_for_the_one_before(recording, collector, monkeypatch, watched, asked, waits) -> None:
    """On a processor ``top_p`` looks how deep it must rank, which shows that the watch sees."""
    model = recording(lambda step: step)
    engine = model.handler._engine
    asked = [
        model.submit((5, 6, 7 + i), collector(), max_tokens=12, **{"temperature": 1.0} | one) for i, one in enumerate(asked)
    ]
    for _ in range(3):
        engine.step()
    noted: list[str] = []
    monkeypatch.setattr(sampler.Choices, "number", lambda choices: 0.5)  # made on the host, where nobody need wait
    monkeypatch.setattr(engine._forward, "run", watched(engine._forward.run, noted))
    monkeypatch.setattr(engine, "_sample", watched(engine._sample, noted))
    engine.step()
    assert engine._forward._graphs.recorded
    assert bool(noted) is waits
    finish(engine, asked)


def test_a_model_that_cannot_be_recorded_is_run_as_it_comes(recording, collector, tokens, caplog) -> None:
    tries = []

    def refuse(step: Callable[[], None]) -> Callable[[], None]:
        tries.append(step)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    model = recording(refuse)
    with caplog.at_level(logging.INFO):
        asked = model.submit((5, 6, 7), collector(), max_tokens=9)
        finish(model.handler._engine, [asked])
    assert tokens(asked) == model.expected((5, 6, 7), 9)
    assert len(tries) == 1
    assert [m for m in caplog.messages if "not recorded" in m] == [
        "decodes are not recorded, since this model's cannot be: operation not permitted when stream is capturing"
    ]


def test_each_number_of_sequences_and_width_is_recorded_once(recording, collector) -> None:
    made = []
    model = recording(lambda step: made.append(step) or step)
    engine = model.handler._engine
    for count in (1, 3, 3, 4, 1):
        asked = [model.submit((5, 6, 7 + i), collector(), max_tokens=8) for i in range(count)]
        finish(engine, asked)
    assert len(made) == engine._forward._graphs.recorded == 2
    assert sorted(engine._forward._graphs._steps) == [(1, 1), (4, 1)]


def test_a_table_holds_zeros_behind_what_a_row_holds_now() -> None:
    """What a longer sequence left there may be another's by now, and a gathered NaN has no weight and is felt."""
    step = _Step(2, 8, torch.device("cpu"))
    for blocks in ([[1, 2, 3, 4], [5]], [[6, 7], [5, 8, 9]], [[1], [5, 8, 9]], [[1, 2, 3, 4, 5, 6, 7, 8], [9]]):
        step._load_table(blocks)
        assert step.table.tolist() == [row + [0] * (8 - len(row)) for row in blocks]


def test_tables_that_would_be_little_but_padding_are_not_recorded(recording, collector, tokens, monkeypatch) -> None:
    monkeypatch.setattr(layouts, "_PADDED", 2 * 16)
    model = recording(lambda step: step)
    engine = model.handler._engine
    asked = [model.submit((5, 6, 7 + i), collector(), max_tokens=20) for i in range(2)]
    finish(engine, asked)
    assert sorted(engine._forward._graphs._steps) == [(2, 1)]
    assert [tokens(one) for one in asked] == [model.expected((5, 6, 7 + i), 20) for i in range(2)]


def test_an_answer_that_a_token_ends_is_run_one_step_too_far_and_nobody_sees_it(recording, collector, tokens) -> None:
    model = recording(lambda step: step)
    engine = model.handler._engine
    long = model.expected((5, 6, 7), 9)
    asked = model.submit((5, 6, 7), collector(), max_tokens=9, stop_token_ids=(long[4],))
    finish(engine, [asked])
    assert tokens(asked) == long[: long.index(long[4]) + 1]
    assert engine._launch is None
    assert engine._pool.free == engine._pool.size
    by_length = model.submit((5, 6, 7), collector(), max_tokens=3)
    assert finish(engine, [by_length]) == 4
    assert tokens(by_length) == long[:3]


# ---------------------------------------------------------------- what a GPU does in another way


def test_a_grammar_s_bits_close_the_same_tokens_there_as_here() -> None:
    dice = torch.Generator().manual_seed(0)
    masks = torch.randint(-(2**31), 2**31 - 1, (3, 10), generator=dice).int()
    logits = torch.randn(5, 313, generator=dice)
    here, there = logits.clone(), logits.clone()
    sampler._close_here(here, [0, 2, 4], masks)
    sampler._close_there(there, [0, 2, 4], masks)
    assert torch.equal(here, there)
    assert torch.equal(here[1], logits[1])
    assert here[0].isinf().any()


def test_rows_ranked_whole_give_what_rows_ranked_as_far_as_needed_do() -> None:
    dice = torch.Generator().manual_seed(0)
    rows = 40
    probabilities = torch.softmax(torch.randn(rows, 3000, generator=dice) * 3, -1)
    numbers = torch.rand(rows, 1, generator=dice)
    cuts = ranking.Cuts(
        top_k=torch.randint(0, 90, (rows, 1), generator=dice),
        top_p=torch.rand(rows, 1, generator=dice),
        min_p=torch.rand(rows, 1, generator=dice) / 50,
    )
    whole = ranking._pick_sorted(*ranking._top(probabilities, 3000), numbers, cuts)
    assert torch.equal(ranking.pick_ranked(probabilities, numbers, cuts), whole)
    assert whole.unique().numel() > 5


def test_numbers_are_placed_in_their_usual_types() -> None:
    cpu = torch.device("cpu")
    assert place([1, 2], cpu).dtype is torch.int64
    assert place([0.5], cpu).dtype is torch.float32
    assert place([[1], [2]], cpu, torch.int32).tolist() == [[1], [2]]
    assert Arriving(place([3, 4], cpu)).read() == [3, 4]


# ---------------------------------------------------------------- what is chosen


def test_a_processor_gains_nothing(family) -> None:
    model = family("llama").handler._engine._forward._model
    assert find(model, Verdict(plain=True), 96, EngineOptions()) == Acceleration()


class Spread:
    """As much of a model as is looked at before it is tried."""

    device = torch.device("cuda:0")

    def __init__(self, *devices: str) -> None:
        self._devices = devices

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return iter(SimpleNamespace(device=torch.device(device)) for device in self._devices)  # type: ignore[misc]


@pytest.mark.parametrize(("devices", "graphs"), [(("cuda:0", "cuda:0"), True), (("cuda:0", "meta"), False)])
def test_a_model_whose_weights_come_and_go_is_not_recorded(monkeypatch, devices: tuple[str, ...], graphs: bool) -> None:
    monkeypatch.setattr(acceleration, "_works", lambda *given: True)
    found = find(Spread(*devices), Verdict(plain=False), 96, EngineOptions())
    assert found == Acceleration(graphs=graphs)


def test_a_model_that_cannot_be_recorded_does_not_pass_its_trial(family) -> None:
    def refuse(step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    model = AutoModelForCausalLM.from_pretrained(family("llama").folder, local_files_only=True).eval()
    verdict = probe(model)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="cannot be recorded"):
        agrees(Acceleration(graphs=True), model, verdict, 96, record=refuse)


class Gpu:
    """In place of ``torch.cuda``: notes what is current, and breaks recordings as torch does, whose stream then stays."""

    def __init__(self, breaks: bool) -> None:
        self.breaks = breaks
        self.modes = ["default"]
        self.current = "usual"
        self.recorded = 0

    def Stream(self, device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(wait_stream=lambda other: None)

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        before, self.current = self.current, "own"
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: object, **options: object) -> Iterator[None]:
        self.current = "recording"
        yield
        if self.breaks:
            raise RuntimeError("capture was invalidated")
        self.recorded += 1
        self.current = "own"

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> Gpu:
        for name, other in {
            "Stream": self.Stream,
            "stream": self.stream,
            "graph": self.graph,
            "device": lambda device: nullcontext(),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
            "graph_pool_handle": object,
            "current_stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
            "get_sync_debug_mode": lambda: self.modes[-1],
            "set_sync_debug_mode": self.modes.append,
        }.items():
            monkeypatch.setattr(torch.cuda, name, other)
        return self


def test_a_step_that_waits_for_the_device_is_found_out_before_it_is_recorded(monkeypatch) -> None:
    gpu = Gpu(breaks=False).patch(monkeypatch)

    def ask() -> None:
        if gpu.modes[-1] == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    with pytest.raises(RuntimeError, match="synchronizing"):
        Recording(torch.device("cuda:0"))(ask)
    assert (gpu.recorded, gpu.modes, gpu.current) == (0, ["default", "error", "default"], "usual")


def test_steps_are_tried_once_and_run_before_they_are_recorded(monkeypatch) -> None:
    gpu = Gpu(breaks=False).patch(monkeypatch)
    ran = []
    record = Recording(torch.device("cuda:0"))
    for _ in range(2):
        record(lambda: ran.append((gpu.current, gpu.modes[-1])))
    assert ran == [("own", "default"), ("own", "error"), ("recording", "default"), ("own", "default"), ("recording", "default")]


def test_a_recording_that_breaks_leaves_the_usual_stream(monkeypatch) -> None:
    gpu = Gpu(breaks=True).patch(monkeypatch)
    with pytest.raises(RuntimeError, match="invalidated"):
        Recording(torch.device("cuda:0"))(lambda: None)
    assert gpu.current == "usual"


def test_blocks_have_a_size_that_the_kernels_know() -> None:
    assert [Acceleration(flavour=OWN).block_size(wanted) for wanted in (1, 16, 256, 257)] == [256, 256, 256, 512]
    assert Acceleration(graphs=True).block_size(16) == 16


@pytest.mark.parametrize(("free", "cache"), [(40, 32), (4, 3), (0.5, 0)])
def test_what_is_computed_on_the_way_has_room_on_a_small_gpu_too(monkeypatch, free: float, cache: int) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * 2**30), 80 * 2**30))
    sizes = {0: LayerShape(8, 128, 128)}  # 4 KB a token
    found = sizing.blocks(EngineOptions(), sizes, 1 << 16, torch.bfloat16, torch.device("cuda:0"), block_size=256)
    assert found == max(cache * 2**30 // (256 * 4096), (1 << 16) // 256)


def test_the_log_says_how_a_model_is_run() -> None:
    assert str(Acceleration()) == "torch's attention"
    assert str(Acceleration(flavour=OWN, graphs=True)) == "flash attention and recorded decodes"
