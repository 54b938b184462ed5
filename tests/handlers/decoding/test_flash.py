"""Flash attention over the block table. Its kernels need a GPU: here a plain function does what they document."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen
from transformers import AutoModelForCausalLM

from handlers.decoding import flash
from handlers.decoding.acceleration import Acceleration, agrees
from handlers.decoding.attention import Softmax
from handlers.decoding.cache import KeyValueCache, LayerShape
from handlers.decoding.engine import Engine
from handlers.decoding.flash import Flavour
from handlers.decoding.layouts import Flashed, Gathered
from handlers.decoding.probe import Tokens, Verdict, probe
from handlers.decoding.scheduler import Chunk

SMALL = Flavour(name=None, module=None, major=None, block=8, sums=True)
BARE = Flavour(name=None, module=None, major=None, block=4, sums=False)
TINY = Flavour(name=None, module=None, major=None, block=1, sums=False)


def documented(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor | None,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: Tensor,
    block_table: Tensor,
    num_splits: int,
) -> Tensor:
    """As the documentation of ``torch.nn.attention.varlen.varlen_attn`` has it, one query and head after the other."""
    assert cu_seq_q.dtype == seqused_k.dtype == block_table.dtype == torch.int32
    assert enable_gqa
    assert num_splits == 1
    groups = query.shape[1] // key.shape[2]
    found = torch.zeros_like(query)
    for number, length in enumerate(seqused_k.tolist()):
        begin, end = cu_seq_q[number : number + 2].tolist()
        assert end - begin <= max_q
        assert length <= max_k
        if cu_seq_k is not None:
            assert cu_seq_k[number + 1] - cu_seq_k[number] == length
        keys, values = (store[block_table[number].long()].flatten(0, 1)[:length] for store in (key, value))
        for at in range(begin, end):
            place = length - (end - at)
            first = 0 if window_size[0] < 0 else max(0, place - window_size[0])
            last = length - 1 if window_size[1] < 0 else place + window_size[1]
            for head in range(query.shape[1]):
                own = slice(first, last + 1)
                weights = torch.softmax(query[at, head] @ keys[own, head // groups].T * scale, -1)
                found[at, head] = weights @ values[own, head // groups]
    return found


@pytest.fixture(autouse=True)
def kernels(monkeypatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", documented)


@pytest.fixture
def fresh(family):
    """A family's model as it is loaded, and what the probe says of it."""

    def load(name: str) -> tuple[Any, Verdict]:
        model = AutoModelForCausalLM.from_pretrained(family(name).folder, local_files_only=True).eval()
        return model, probe(model)

    return load


def sequences(cache: KeyValueCache, *counts: tuple[int, int]) -> list[Chunk]:
    """Chunks of sequences whose blocks are scattered; each starts somewhere and has some tokens."""
    free = iter(torch.randperm(20, generator=torch.Generator().manual_seed(1)).add(1).tolist())
    work = []
    for order, (start, count) in enumerate(counts):
        blocks = [next(free) for _ in range(math.ceil((start + count) / cache.block_size))]
        work.append(Chunk(Tokens(order, [7] * (start + count), blocks=blocks), start, count))  # type: ignore[arg-type]
    return work


@pytest.mark.parametrize("window", [None, 1, 5, 64])
@pytest.mark.parametrize("flavour", [SMALL, BARE], ids=["with sums", "without"])
@pytest.mark.parametrize(
    "counts", [[(0, 1), (5, 1), (23, 1)], [(9, 1), (0, 11), (6, 7)], [(0, 3)]], ids=["decodes", "mixed", "a prompt"]
)
def test_it_reads_what_gathering_reads(counts: list[tuple[int, int]], flavour: Flavour, window: int | None) -> None:
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    cache = KeyValueCache({0: LayerShape(2, 8, 8)}, blocks=20, block_size=8, dtype=torch.float32, device=cpu)
    for store in (cache.keys[0], cache.values[0]):
        store[1:].normal_()
    work = sequences(cache, *counts)
    total = sum(chunk.count for chunk in work)
    query, key, value = torch.randn(4, total, 8), torch.randn(2, total, 8), torch.randn(2, total, 8)
    found, expected = (
        layouts.of(work).attend(0, query, key, value, window, Softmax(0.3))
        for layouts in (Flashed(cache, cpu, flavour, 20), Gathered(cache, cpu))
    )
    torch.testing.assert_close(found, expected)


def test_decodes_from_buffers_are_the_same() -> None:
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    cache = KeyValueCache({0: LayerShape(2, 8, 8)}, blocks=20, block_size=8, dtype=torch.float32, device=cpu)
    work = sequences(cache, (5, 1), (23, 1))
    query, key, value = torch.randn(4, 2, 8), torch.randn(2, 2, 8), torch.randn(2, 2, 8)
    layouts = Flashed(cache, cpu, SMALL, 20)
    expected = layouts.of(work).attend(0, query, key, value, None, Softmax(0.3))
    table = torch.tensor([[*work[0].sequence.blocks, 0, 0, 0], [*work[1].sequence.blocks, 0]], dtype=torch.int32)
    slots = torch.tensor([chunk.sequence.blocks[chunk.start // 8] * 8 + chunk.start % 8 for chunk in work])
    paged = layouts.of_decodes(slots, torch.tensor([6, 24]), table)
    torch.testing.assert_close(paged.attend(0, query, key, value, None, Softmax(0.3)), expected)


@pytest.mark.parametrize("graphs", [False, True], ids=["as it comes", "from buffers"])
@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral", "gpt2"])
def test_a_model_says_the_same_through_it(family, reload, collector, tokens, name: str, graphs: bool) -> None:
    model = reload(family(name), step_tokens=9, block_size=8)
    engine = model.handler._engine
    assert isinstance(engine, Engine)
    way = Acceleration(flavour=SMALL, graphs=graphs)
    engine._forward = way.forward(engine._forward._model, engine._cache, 96, lambda step: step)
    engine._ahead = True
    asked = [tuple(range(3, 3 + count)) for count in (1, 20, 7)]
    waiting = [model.submit(ids, collector(), max_tokens=9) for ids in asked]
    while any(one.poll() is None for one in waiting):
        engine.step()
    assert [tokens(one) for one in waiting] == [model.expected(ids, 9) for ids in asked]
    assert engine._forward.recorded == (3 if graphs else 0)  # of one, two and up to four; how long they are does not matter


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3"])
def test_the_trial_lets_through_what_is_right(fresh, name: str) -> None:
    model, verdict = fresh(name)
    with torch.inference_mode():
        for graphs in (False, True):
            way = Acceleration(flavour=SMALL, graphs=graphs)
            assert agrees(way, model, verdict, 96, record=lambda step: step)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 0.1},
        {"window_size": (3, 0)},
        {"block_table": torch.ones(2, 8, dtype=torch.int32)},
        {"seqused_k": torch.ones(2, dtype=torch.int32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_trial_finds_kernels_that_do_something_else(fresh, monkeypatch, wrong: dict[str, Any]) -> None:
    model, verdict = fresh("llama")
    monkeypatch.setattr(
        varlen, "varlen_attn", lambda *given, **options: documented(*given[:4], None, 99, 99, **options | wrong)
    )
    with torch.inference_mode():
        assert not agrees(Acceleration(flavour=BARE), model, verdict, 96)


def test_the_trial_looks_beyond_a_window(fresh, monkeypatch) -> None:
    model, verdict = fresh("mistral")
    assert verdict.window == 8
    blind = {"window_size": (-1, 0)}
    monkeypatch.setattr(varlen, "varlen_attn", lambda *given, **options: documented(*given, **options | blind))
    with torch.inference_mode():
        assert not agrees(Acceleration(flavour=TINY), model, verdict, 96)
        monkeypatch.setattr(varlen, "varlen_attn", documented)
        assert agrees(Acceleration(flavour=TINY), model, verdict, 96)


def test_layers_that_ask_for_more_than_a_product_are_not_plain(fresh) -> None:
    plain = {name: fresh(name)[1].plain for name in ("llama", "gemma2", "gpt-oss")}
    assert plain == {"llama": True, "gemma2": False, "gpt-oss": False}


def test_the_kernels_know_halves_and_heads_of_usual_sizes_only() -> None:
    def fits(*sizes: int, dtype: torch.dtype = torch.bfloat16) -> bool:
        return flash.fits({0: LayerShape(2, *sizes)}, dtype)

    assert fits(64, 64)
    assert fits(256, 256, dtype=torch.float16)
    assert not fits(64, 64, dtype=torch.float32)
    assert not fits(60, 60)
    assert not fits(512, 512)
    assert not fits(192, 128)


def test_a_processor_has_none() -> None:
    assert list(flash.available(torch.device("cpu"))) == []


@pytest.mark.parametrize(
    ("major", "modules", "names"),
    [
        (7, (), []),
        (8, ("flash_attn_interface",), [None]),
        (9, (), [None]),
        (9, ("flash_attn_interface",), ["FA3", None]),
        (10, ("flash_attn.cute",), ["FA4", None]),
    ],
)
def test_the_newest_that_gpu_and_packages_allow_comes_first(monkeypatch, major, modules, names) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    monkeypatch.setattr(flash, "_is_there", lambda module: module in modules)
    assert [one.name for one in flash.available(torch.device("cuda:0"))] == names


def test_what_is_not_installed_is_not_there() -> None:
    assert not flash._is_there("no_such_package.cute")
    assert flash._is_there("torch.nn")
    assert not flash.activate(Flavour(name="FA3", module="flash_attn_interface", major=9, block=16, sums=False))
    flash.restore()


def test_the_function_that_is_called_takes_what_it_is_given(monkeypatch) -> None:
    """The real one, on tensors that have a shape and nothing else."""
    monkeypatch.undo()
    meta = torch.device("meta")
    cache = KeyValueCache({0: LayerShape(2, 64, 64)}, blocks=3, block_size=256, dtype=torch.bfloat16, device=meta)
    query, key = (
        torch.empty(4, 3, 64, dtype=torch.bfloat16, device=meta),
        torch.empty(2, 3, 64, dtype=torch.bfloat16, device=meta),
    )
    table = torch.empty(3, 1, dtype=torch.int32, device=meta)
    lengths = slots = torch.empty(3, dtype=torch.long, device=meta)
    found = (
        Flashed(cache, meta, flash.OWN, 1).of_decodes(slots, lengths, table).attend(0, query, key, key, None, Softmax(0.125))
    )
    assert found.shape == (3, 4, 64)
    assert found.dtype is torch.bfloat16
