"""A step's whole way on a GPU that is not there: tensors with a device, a type and a shape, and no numbers.

Whatever mixes devices, asks the device for a number, or copies in a way that waits for it, raises. So the engine's steps for
CUDA are gone through on any machine, by a torch that was built for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import import_utils

from handlers.decoding import attention
from handlers.decoding.acceleration import Acceleration
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.engine import Engine
from handlers.decoding.flash import OWN, Flavour
from handlers.decoding.params import TextConfig
from handlers.decoding.probe import _Spy
from handlers.decoding.sampler import Choices
from handlers.decoding.scheduler import Limits
from handlers.decoding.ticket import Generation, Prompt, Ticket
from handlers.decoding.transfer import Arriving, place
from handlers.decoding.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this torch was not built for CUDA")

GPU = torch.device("cuda:0")
BARE = Flavour(name=None, module=None, major=None, block=16, sums=False)
COPIES = {torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_}
TOKEN = 7
BLOCKS = 60
PLAIN = ["llama", "qwen2", "qwen3", "gemma3", "mistral", "phi", "phi3", "gpt2", "mixtral", "qwen3-moe", "olmo2"]
OTHERS = ["gemma2", "gpt-oss"]


class Waits(Exception):
    """Python would wait for the device."""


class Watch(TorchDispatchMode):
    """Between devices numbers go from or to pinned memory only, by copies that nobody waits for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        found = func(*args, **options)
        tensors = [one for one in tree_leaves((args, options)) if isinstance(one, Tensor)]
        if func.overloadpacket in COPIES:
            tensors.append(found)
            fine = any(getattr(one, "pinned", False) for one in tensors) and (options.get("non_blocking") or True in args[2:])
        else:
            tensors = [one for one in tensors if one.dim()]  # single numbers travel with the call
            fine = False
        if len({one.device.type for one in tensors}) > 1 and not fine:
            raise Waits(f"{func} with tensors on {', '.join(str(one.device) for one in tensors)}")
        if options.get("pin_memory"):
            found.pinned = True
        return found


class Event:
    """Is recorded, and over at once."""

    def record(self, stream: Any) -> None: ...

    def synchronize(self) -> None: ...


class Ruler:
    """A grammar that closes every second token."""

    finished = False
    error = None

    def fill_mask(self, row: Tensor) -> bool:
        row.fill_(0x55555555)
        return True

    def accept(self, token: int) -> bool:
        return True


class Silent:
    """Nobody listens."""

    def emit(self, delta: Any) -> None: ...

    def check(self) -> None: ...

    def spend(self, usage: Any) -> None: ...


def numbers(arriving: Arriving) -> Any:
    """In place of numbers that nobody has computed: the same token each time, or a log probability."""
    found: Any = TOKEN if arriving._values.dtype is torch.long else -1.0
    for size in reversed(arriving._values.shape):
        found = [found] * size
    return found


def pinning(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Pinned memory belongs to a driver: it is noted instead which tensors would be in it."""

    def made(*given: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        found = make(*given, **options)
        found.pinned = pin_memory  # type: ignore[attr-defined]
        found.constant = None  # type: ignore[attr-defined]  # its numbers, which torch would really copy
        return found

    return made


@pytest.fixture(scope="module")
def vocabulary(snapshot) -> Vocabulary:
    return Vocabulary(AutoTokenizer.from_pretrained(snapshot, local_files_only=True))


@pytest.fixture
def gpu(vocabulary, monkeypatch) -> Iterator[torch.device]:
    """A GPU that is not there, for as long as the test runs. Whoever needs real tensors must have them by then."""
    monkeypatch.setattr(torch, "tensor", pinning(torch.tensor))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(Arriving, "read", numbers)
    monkeypatch.setattr(Choices, "number", lambda choices: 0.5)
    monkeypatch.setattr(import_utils, "is_fake_tensor", lambda tensor: False)  # else transformers spares them its questions
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    with FakeTensorMode(), Watch():
        yield GPU


def engine_of(config: Any, way: Acceleration, vocabulary: Vocabulary, **limits: int) -> Engine:
    """As it is served, except for what is tried on the real device."""
    with GPU:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    attention.register()
    model.set_attn_implementation(attention.NAME)
    spy = _Spy()
    with torch.inference_mode():
        model(input_ids=torch.zeros(1, 5, dtype=torch.long, device=GPU), use_cache=False, paged=spy)
    size = way.block_size(4)
    cache = KeyValueCache(spy.shapes, blocks=BLOCKS, block_size=size, dtype=spy.dtype, device=GPU)
    forward = way.forward(model, cache, BLOCKS * size, lambda step: step)
    return Engine(
        forward,
        vocabulary,
        vocab_size=config.vocab_size,
        blocks=BLOCKS,
        limits=Limits(**{"step_tokens": 16, **limits}),
        ahead=True,
    )


def submit(engine: Engine, length: int, tokens: int = 9, ruled: bool = False, **asked: Any) -> Ticket[Generation]:
    prompt = Prompt(ids=tuple(range(3 + length, 3 + 2 * length)), text="", limit=tokens)
    return engine.submit(
        (prompt,),
        TextConfig(**{"temperature": 0.0, "max_tokens": tokens, "keep": asked.get("n", 1), **asked}),
        Silent(),
        on_piece=lambda piece: None,
        on_end=lambda generation: generation,
        new_matcher=Ruler if ruled else None,
    )


def finish(engine: Engine, *asked: Ticket[Generation]) -> None:
    while any(one.poll() is None for one in asked):
        engine.step()
    assert all(set(answer.tokens) == {TOKEN} for one in asked for answer in one.poll().answers[0])


# ---------------------------------------------------------------- the model's part


WAYS = {
    "gathered": Acceleration(),
    "gathered, recorded": Acceleration(graphs=True),
    "flash": Acceleration(flavour=OWN),
    "flash, recorded": Acceleration(flavour=OWN, graphs=True),
    "newer flash, recorded": Acceleration(flavour=BARE, graphs=True),
}
SERVED = [(name, way) for way in WAYS for name in (PLAIN if "flash" in way else PLAIN + OTHERS)]


@pytest.mark.parametrize(("name", "way"), SERVED, ids=str)
def test_nothing_of_a_step_waits(packed, gpu, vocabulary, name: str, way: str) -> None:
    """Chunks of prompts beside decodes, then decodes alone, over several blocks."""
    engine = engine_of(packed(name), WAYS[way], vocabulary)
    talking = submit(engine, 3, tokens=20)
    engine.step()
    finish(engine, talking, submit(engine, 40), submit(engine, 7, n=2, temperature=1.0))
    graphs = engine._forward._graphs
    assert bool(graphs and graphs.recorded) == WAYS[way].graphs


def test_nothing_waits_where_blocks_are_scarce(packed, gpu, vocabulary) -> None:
    engine = engine_of(packed("llama"), WAYS["gathered, recorded"], vocabulary, sequences=40)
    finish(engine, *(submit(engine, 20 + count, n=2, temperature=1.0) for count in range(12)))


# ---------------------------------------------------------------- choosing tokens


ASKED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "drawn": {"temperature": 0.9, "seed": 1},
    "top_p": {"temperature": 0.9, "top_p": 0.9},
    "top_k": {"temperature": 0.9, "top_k": 5},
    "min_p": {"temperature": 1.1, "min_p": 0.02},
    "all three": {"temperature": 1.1, "top_p": 0.9, "top_k": 5, "min_p": 0.02},
    "presence and frequency": {"presence_penalty": 0.5, "frequency_penalty": 0.2},
    "repetition": {"repetition_penalty": 1.3},
    "bias": {"logit_bias": {9: 3.0, 11: -100.0}},
    "min_tokens": {"min_tokens": 4, "stop_ids": frozenset({2, 5})},
    "grammar": {"ruled": True},
    "drawn by a grammar": {"ruled": True, "temperature": 0.9, "top_p": 0.9},
    "logprobs": {"logprobs": 3},
    "logprobs of the chosen alone": {"logprobs": 0, "temperature": 1.0},
    "the best of several": {"n": 3, "keep": 1, "temperature": 1.0},
    "the prompt's logprobs": {"echo": True, "logprobs": 2},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_nothing_of_choosing_waits(packed, gpu, vocabulary, asked: dict[str, Any]) -> None:
    """Two of a kind, which are all of a step."""
    engine = engine_of(packed("llama"), WAYS["flash, recorded"], vocabulary)
    finish(engine, submit(engine, 5, **asked), submit(engine, 6, **asked))


def test_nothing_waits_where_all_is_asked_for_at_once(packed, gpu, vocabulary) -> None:
    engine = engine_of(packed("llama"), WAYS["gathered, recorded"], vocabulary)
    finish(engine, *(submit(engine, 3 + count, **asked) for count, asked in enumerate(ASKED.values())))


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize(
    "wrong",
    [
        lambda there: there.sum().item(),
        lambda there: bool(there[0] > 0),
        lambda there: there.tolist(),
        lambda there: there.nonzero(),
        lambda there: there[there > 0],
        lambda there: there.cpu(),
        lambda there: there.to("cpu", non_blocking=True),
        lambda there: there[[0, 1]],
        lambda there: there[torch.zeros(2, dtype=torch.long)],
        lambda there: there + torch.ones(3),
        lambda there: there.copy_(torch.ones(3)),
        lambda there: torch.tensor([1, 2], device=GPU),
        lambda there: torch.ones(3).to(GPU, non_blocking=True),
        lambda there: torch.empty(3, pin_memory=True).to(GPU),
    ],
    ids=[
        "item",
        "bool",
        "tolist",
        "nonzero",
        "a mask",
        "cpu",
        "unpinned there",
        "a list",
        "an index",
        "a mixture",
        "copy_",
        "tensor",
        "unpinned",
        "blocking",
    ],
)
def test_what_would_wait_is_found(gpu, wrong: Callable[[Tensor], Any]) -> None:
    there = torch.zeros(3, device=gpu)
    with (
        torch.inference_mode(),
        pytest.raises((Waits, RuntimeError, DataDependentOutputException, DynamicOutputShapeException)),
    ):
        wrong(there)


def test_what_does_not_wait_is_let_through(gpu) -> None:
    with torch.inference_mode():
        there = place([1, 2, 3], gpu) + 1
        assert Arriving(there).read() == [TOKEN] * 3
        assert there.device == gpu
