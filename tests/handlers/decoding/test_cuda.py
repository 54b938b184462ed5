"""On a real GPU, what the other tests say of a processor; and what only a GPU has: flash attention, recordings, no waiting."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from handlers.decoding import flash, sampler
from handlers.decoding.acceleration import Acceleration, agrees, find
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.engine import Engine
from handlers.decoding.params import TextConfig
from handlers.decoding.probe import Tokens, probe
from handlers.decoding.scheduler import Chunk
from handlers.decoding.sizing import EngineOptions
from handlers.decoding.transfer import Arriving, place
from openai_compat.errors import Cancelled

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]

DEVICE = "cuda:0"
EXACT = ["llama", "qwen3", "mistral", "gemma3", "gpt2", "mixtral"]
LENGTHS = (1, 3, 17, 40, 5, 26, 8, 33)
CONTEXT = 1024
ASKED = [
    {"temperature": 0.0},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 0.9, "seed": 5, "top_p": 0.9, "top_k": 20},
    {"temperature": 1.1, "seed": 2, "min_p": 0.02},
    {"temperature": 0.8, "seed": 3, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    {"temperature": 0.0, "repetition_penalty": 1.3, "logit_bias": {9: 3.0}},
    {"temperature": 0.7, "seed": 4, "logprobs": 3},
    {"temperature": 0.0, "min_tokens": 4, "n": 2},
]


def prompts(*lengths: int, seed: int = 0) -> list[tuple[int, ...]]:
    source = random.Random(seed)
    return [tuple(source.randrange(3, 400) for _ in range(length)) for length in lengths]


def run(engine: Engine, *asked: Any) -> None:
    while any(one.poll() is None for one in asked):
        engine.step()


def is_empty(engine: Engine) -> bool:
    scheduler = engine._scheduler
    return engine._pool.free == engine._pool.size and not scheduler.running and not scheduler.waiting and not engine._groups


@contextmanager
def nobody_may_wait() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def served(builder, packed) -> Callable[..., Any]:
    """A family's model on the GPU, served as models are, made once for each way."""
    made: dict[Any, Any] = {}

    def get(name: str, dtype: str = "float32", **engine: Any) -> Any:
        key = name, dtype, tuple(sorted(engine.items()))
        if key not in made:
            config = packed(name)
            config.max_position_embeddings = CONTEXT
            made[key] = builder(config, device=DEVICE, dtype=dtype, options={"engine": engine})
        return made[key]

    return get


@pytest.fixture
def half(served) -> Callable[..., Any]:
    """A model in bfloat16, where the GPU has flash attention for it."""
    if torch.cuda.get_device_capability(DEVICE)[0] < 8:
        pytest.skip("flash attention needs compute capability 8 or higher")
    return lambda name, **engine: served(name, "bfloat16", **engine)


# ---------------------------------------------------------------- the same answers


@pytest.mark.parametrize("engine", [{}, {"graphs": False}, {"ahead": False}], ids=["as served", "not recorded", "in step"])
@pytest.mark.parametrize("name", EXACT)
def test_greedy_equals_generate_alone_and_among_others(served, collector, tokens, name: str, engine: dict[str, Any]) -> None:
    """``generate`` runs on the processor: no kernel of the GPU can be wrong in both."""
    model = served(name, **engine)
    served_by = model.handler._engine
    assert isinstance(served_by, Engine)
    assert served_by._ahead is engine.get("ahead", True)
    asked = prompts(*LENGTHS)
    expected = [model.expected(ids, 16) for ids in asked]
    alone = model.submit(asked[3], collector(), max_tokens=16)
    run(served_by, alone)
    assert tokens(alone) == expected[3]
    together = [model.submit(ids, collector(), max_tokens=16) for ids in asked]
    run(served_by, *together)
    assert [tokens(one) for one in together] == expected
    assert is_empty(served_by)


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma3", "gpt2"])
def test_decodes_are_recorded(served, collector, name: str) -> None:
    model = served(name)
    engine = model.handler._engine
    run(engine, *(model.submit(ids, collector(), max_tokens=8) for ids in prompts(5, 9, 12)))
    assert engine._forward.recorded


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_greedy_is_the_same_in_chunks_and_when_blocks_run_out(builder, packed, collector, tokens, name: str) -> None:
    options = {"engine": {"step_tokens": 7, "block_size": 4, "cache_bytes": 1}}
    model = builder(packed(name), device=DEVICE, dtype="float32", options=options)
    asked = prompts(*LENGTHS)
    waiting = [model.submit(ids, collector(), max_tokens=16) for ids in asked]
    run(model.handler._engine, *waiting)
    assert [tokens(one) for one in waiting] == [model.expected(ids, 16) for ids in asked]
    assert is_empty(model.handler._engine)


def test_a_seeded_request_alone_is_the_same_among_others(served, collector, tokens) -> None:
    model = served("llama")
    one, *others = prompts(12, *[3 + i for i in range(15)])
    settings = {"temperature": 1.3, "top_p": 0.95, "seed": 11, "max_tokens": 30, "presence_penalty": 0.5}
    alone = model.submit(one, collector(), **settings)
    run(model.handler._engine, alone)
    crowd = [
        model.submit(ids, collector(), temperature=0.5 + i / 20, seed=i if i % 2 else None, top_k=i, max_tokens=10 + i)
        for i, ids in enumerate(others)
    ]
    beside = model.submit(one, collector(), **settings)
    run(model.handler._engine, beside, *crowd)
    assert tokens(beside) == tokens(alone)
    assert len(set(tokens(beside))) > 5


def test_a_cancelled_request_frees_its_blocks(served, collector, tokens) -> None:
    model = served("llama")
    engine = model.handler._engine
    stays, leaves = prompts(9, 35)
    kept = model.submit(stays, collector(), max_tokens=30)
    gone = model.submit(leaves, collector(checks=4, error=Cancelled), max_tokens=30, n=2)
    for _ in range(3):
        engine.step()
    before = engine._pool.free
    engine.step()
    assert engine._pool.free > before
    with pytest.raises(Cancelled):
        gone.poll()
    run(engine, kept)
    assert tokens(kept) == model.expected(stays, 30)
    assert is_empty(engine)


# ---------------------------------------------------------------- flash attention and halves


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma3", "gpt2"])
def test_halves_are_served_by_flash_attention_from_recordings(half, name: str) -> None:
    """And the logits are those of torch's own attention, over several blocks that are out of order."""
    model = AutoModelForCausalLM.from_pretrained(half(name).folder, dtype=torch.bfloat16, local_files_only=True)
    model = model.to(DEVICE).eval()
    verdict = probe(model)
    assert verdict.reason is None
    found = find(model, verdict, CONTEXT, EngineOptions())
    assert found.flavour in flash.FLAVOURS
    assert found.graphs
    with torch.inference_mode():
        assert agrees(found, model, verdict, CONTEXT)
        assert agrees(Acceleration(graphs=True), model, verdict, CONTEXT)


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_flash_attention_s_logits_are_about_as_near_to_float32_as_torch_s(half, name: str) -> None:
    """Greedy answers of halves may differ, where two tokens are as likely; the logits of the first token may not."""
    folder = half(name).folder
    exact = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True).to(DEVICE).eval()
    ids = torch.tensor(prompts(300))
    with torch.inference_mode():
        expected = exact(input_ids=ids).logits[0, -1]
        plain = model(input_ids=ids.to(DEVICE)).logits[0, -1].float().cpu()
        flashed = first_logits(model, ids[0].tolist())
    assert (flashed - expected).norm() <= 2 * (plain - expected).norm() + 1e-3 * expected.norm()


def first_logits(model: Any, ids: list[int]) -> torch.Tensor:
    """Of the token behind a prompt, by the engine's path."""
    verdict = probe(model)
    way = find(model, verdict, CONTEXT, EngineOptions())
    size = way.block_size(16)
    count = -(-len(ids) // size)
    cache = KeyValueCache(verdict.shapes, blocks=count, block_size=size, dtype=verdict.dtype, device=model.device)
    sequence = Tokens(0, ids, blocks=list(range(count, 0, -1)))
    work = [Chunk(sequence, 0, len(ids))]  # type: ignore[arg-type]
    return way.forward(model, cache, CONTEXT).run(work).rows[0].float().cpu()


def test_a_seeded_request_in_halves_is_the_same_beside_any_other_of_its_row_count(half, collector, tokens) -> None:
    """Flash attention is told not to split, so a row's attention does not depend on the others.

    The matrices' products do round by the number of rows, which is why only company of the same size is compared.
    """
    model = half("llama")
    engine = model.handler._engine
    assert engine._forward._layouts._flavour is not None
    one, *rest = prompts(12, *[12] * 6)
    found = []
    for company in (rest[:3], rest[3:]):
        settings = {"temperature": 1.3, "seed": 11, "max_tokens": 30}
        beside = model.submit(one, collector(), **settings)
        others = [model.submit(ids, collector(), max_tokens=30, seed=i) for i, ids in enumerate(company)]
        run(engine, beside, *others)
        found.append(tokens(beside))
    assert found[0] == found[1]
    assert len(set(found[0])) > 5


# ---------------------------------------------------------------- nobody waits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nothing_of_a_step_waits_for_the_device(served, collector, monkeypatch, dtype: str) -> None:
    model = served("llama", dtype)
    engine = model.handler._engine
    asked = [
        model.submit((5, 6, 7 + i), collector(), max_tokens=24, **{"temperature": 1.0} | one) for i, one in enumerate(ASKED)
    ]
    for _ in range(4):
        engine.step()  # what is recorded is so by now
    run_, sample_ = engine._forward.run, engine._sample
    calls: list[str] = []

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*given: Any) -> Any:
            calls.append(name)
            with nobody_may_wait():
                return call(*given)

        return inner

    monkeypatch.setattr(engine._forward, "run", watched("run", run_))
    monkeypatch.setattr(engine, "_sample", watched("sample", sample_))
    for _ in range(3):
        engine.step()
    late = model.submit(tuple(range(3, 40)), collector(), max_tokens=3)
    engine.step()  # a prompt beside decodes
    assert calls == ["run", "sample"] * 4
    monkeypatch.undo()
    run(engine, late, *asked)


def test_the_watch_sees_who_waits() -> None:
    there = torch.ones(3, device=DEVICE)
    with nobody_may_wait():
        for wrong in (lambda: there.sum().item(), there.nonzero, there.cpu, lambda: torch.ones(3).to(DEVICE)):
            with pytest.raises(RuntimeError, match="synchroniz"):
                wrong()
        arriving = Arriving(place([1, 2], there.device))
    assert arriving.read() == [1, 2]


def test_numbers_arrive_though_much_is_queued_before_them() -> None:
    busy = torch.randn(2048, 2048, device=DEVICE)
    for _ in range(20):
        busy = busy @ busy / 2048
    found = [Arriving(place([number, number + 1], busy.device) * 2) for number in range(50)]
    assert [one.read() for one in found] == [[2 * number, 2 * number + 2] for number in range(50)]


class Asking(nn.Module):
    """Asks the device for a number on the way, as some models do."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * (1.0 if hidden.sum().item() < float("inf") else 0.5)


def test_a_model_that_waits_is_found_out_when_it_is_tried(served) -> None:
    model = AutoModelForCausalLM.from_pretrained(served("llama").folder, local_files_only=True).to(DEVICE).eval()
    model.model.norm = nn.Sequential(model.model.norm, Asking())
    verdict = probe(model)
    assert verdict.reason is None
    stream = torch.cuda.current_stream()
    assert not find(model, verdict, CONTEXT, EngineOptions()).graphs
    assert torch.cuda.current_stream() == stream


def test_a_model_that_waits_is_served_without_recordings(builder, packed, collector, tokens) -> None:
    model = builder(packed("llama"), device=DEVICE, dtype="float32")
    engine = model.handler._engine
    inner = engine._forward._model
    inner.model.norm = nn.Sequential(inner.model.norm, Asking())
    for count in (2, 1):
        asked = prompts(5, 9)[:count]
        waiting = [model.submit(ids, collector(), max_tokens=9) for ids in asked]
        run(engine, *waiting)
        assert [tokens(one) for one in waiting] == [model.expected(ids, 9) for ids in asked]
    assert engine._forward.recorded == 0


# ---------------------------------------------------------------- choosing tokens


def test_a_gpu_chooses_what_a_processor_chooses() -> None:
    """Of logits that both have: what is drawn comes from the host's own generator."""
    configs = [
        TextConfig(temperature=0.0),
        TextConfig(seed=1),
        TextConfig(seed=2, top_p=0.9),
        TextConfig(seed=3, top_k=9),
        TextConfig(seed=4, min_p=0.1),
        TextConfig(seed=5, top_p=0.8, top_k=50, min_p=0.02, temperature=0.7),
        TextConfig(temperature=0.0, repetition_penalty=1.5, logit_bias={3: 2.0}),
        TextConfig(seed=6, presence_penalty=1.0, frequency_penalty=0.5),
    ]
    dice = torch.Generator().manual_seed(0)
    rounds = [torch.randn(len(configs), 5000, generator=dice) * 4 for _ in range(20)]
    chosen = []
    for device in (torch.device("cpu"), torch.device(DEVICE)):
        batch = [sampler.Choices(one, (1, 2, 3), vocab_size=5000, index=0, device=device) for one in configs]
        chosen.append([sampler.choose(logits.to(device, copy=True), batch) for logits in rounds])
    assert chosen[0] == chosen[1]
