#!/usr/bin/env python3
"""Decode speed on a GPU: this engine beside transformers' continuous batching, in turns, and how far from the memory's limit.

    python benchmarks/gpu_decode.py [--batches 1 32 128] [--tokens 200] [--prompt 32] [--rounds 3] [--without-parts]

or, only to see on a processor that it runs, with a tiny model (the numbers say nothing then):

    python benchmarks/gpu_decode.py --device cpu --hidden 64 --layers 2 --heads 4 --kv-heads 2 --intermediate 128 \\
        --vocabulary 512 --batches 1 4 --tokens 16 --prompt 8

The model has random weights in bfloat16 and, unless told otherwise, the shape of Llama-3.2-1B; nothing is fetched. All answers
are greedy and as long as they may be. Transformers runs a model of the same class and weights by the fastest of its settings
that work. Both get the same new prompts each round, which are part of the time; what is recorded or compiled is so before. The
other lines leave out one part of the engine each. The limit: the bytes of the weights and of the keys and values that a step
reads, over the bandwidth of a large copy on the same device in the same run, read and written bytes counted.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any, NamedTuple

import torch
import transformers
from support.continuous_batching import STEP_TOKENS, Answer, Prompts, Task, best_setting, peer, sure, timed
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from handlers import types as t
from handlers.decoding import acceleration, sizing
from handlers.decoding.cache import KeyValueCache, bytes_per_token
from handlers.decoding.engine import Engine, Prompt
from handlers.decoding.params import TextConfig
from handlers.decoding.probe import Verdict, probe
from handlers.decoding.sizing import EngineOptions
from handlers.decoding.vocabulary import Vocabulary

GOAL = 0.6
CONTEXT = 4096
OURS, THEIRS = "ours", "transformers"
PARTS = {"no graphs": {"graphs": False}, "not ahead": {"ahead": False}, "no flash": {"flash": False}}


class Silent:
    """Nobody listens."""

    def emit(self, delta: t.Delta) -> None: ...

    def check(self) -> None: ...

    def spend(self, usage: t.Usage) -> None: ...


class Limit(NamedTuple):
    """Bytes of the weights, of a token's keys and values, and how many the device moves a second."""

    weights: int
    token: int
    bandwidth: float

    def speed(self, batch: int, task: Task) -> float:
        """Tokens a second that no engine can exceed which reads all of it at each step, the context half grown."""
        kept = batch * (task.prompt + task.tokens / 2) * self.token
        return batch * self.bandwidth / (self.weights + kept)


# ---------------------------------------------------------------- what is measured


def config_of(args: argparse.Namespace) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        intermediate_size=args.intermediate,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )


def build(config: LlamaConfig, device: torch.device) -> Any:
    torch.manual_seed(0)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def vocabulary_of(size: int) -> Vocabulary:
    """As many tokens as a real one has, of which each is a short word, so that text costs what it costs."""
    tokenizer = Tokenizer(models.BPE(vocab={f"Ġw{number}": number for number in range(size)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return Vocabulary(PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def engine_of(model: Any, verdict: Verdict, vocabulary: Vocabulary, options: EngineOptions, task: Task) -> Engine:
    """As a loaded model gets it, but for the cache, which holds what this task needs."""
    way = acceleration.find(model, verdict, CONTEXT, options)
    size = way.block_size(options.block_size)
    limits = sizing.limits(options, model.device)
    blocks = limits.sequences * -(-task.whole // size)
    cache = KeyValueCache(verdict.shapes, blocks=blocks, block_size=size, dtype=verdict.dtype, device=model.device)
    forward = way.forward(model, cache, CONTEXT)
    ahead = options.ahead is not False
    return Engine(forward, vocabulary, vocab_size=model.config.vocab_size, blocks=blocks, limits=limits, ahead=ahead)


def answers_of(engine: Engine, task: Task) -> Answer:
    config = TextConfig(temperature=0.0, max_tokens=task.tokens)

    def answer(prompts: Prompts) -> None:
        asked = [
            engine.submit(
                (Prompt(ids=tuple(ids), text="", limit=task.tokens),),
                config,
                Silent(),
                on_piece=lambda piece: None,
                on_end=lambda generation: len(generation.answers[0][0].tokens),
            )
            for ids in prompts
        ]
        while any(one.poll() is None for one in asked):
            engine.step()
        sure({one.poll() for one in asked} == {task.tokens}, "an answer is short")

    return answer


# ---------------------------------------------------------------- measuring


class Draw:
    """Prompts that nobody has seen yet."""

    def __init__(self, task: Task, vocabulary: int) -> None:
        self._generator = torch.Generator().manual_seed(1)
        self._task = task
        self._vocabulary = vocabulary

    def __call__(self, batch: int) -> Prompts:
        found: Prompts = torch.randint(self._vocabulary, (batch, self._task.prompt), generator=self._generator).tolist()
        return found


def bandwidth(device: torch.device) -> float:
    """Bytes a second of a copy on the device, those read and those written."""
    there = device.type == "cuda"
    source = torch.ones((1 << 30) if there else (1 << 26), dtype=torch.uint8, device=device)
    target, times = torch.empty_like(source), []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(10):
            target.copy_(source)
        if there:
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - began) / 10)
    return 2 * len(source) / min(times)


def limit_of(model: Any, verdict: Verdict) -> Limit:
    read = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    return Limit(read, bytes_per_token(verdict.shapes, verdict.dtype.itemsize), bandwidth(model.device))


def compare(ours: dict[str, Answer], other: Any, batch: int, task: Task, draw: Draw, rounds: int) -> dict[str, list[float]]:
    """Seconds of each, by turns, after each has had its way once: ours before the other's thread is there."""
    for answer in ours.values():
        answer(draw(batch))
    setting = best_setting(other, batch, task, draw)
    if setting is None:
        print(f"batch {batch}: no setting of transformers' continuous batching works")
        return by_turns(ours, batch, draw, rounds)
    with peer(other, setting, batch, task) as (theirs, described):
        print(f"batch {batch}, transformers set to: {described}", flush=True)
        theirs(draw(batch))
        return by_turns({**ours, THEIRS: theirs}, batch, draw, rounds)


def by_turns(contenders: dict[str, Answer], batch: int, draw: Draw, rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        prompts = draw(batch)
        for name, answer in contenders.items():
            found[name].append(timed(answer, prompts))
    return found


def show(found: dict[str, list[float]], batch: int, task: Task, limit: Limit) -> float:
    """The table's lines for one batch; our share of the limit."""
    speeds = {name: [batch * task.tokens / one for one in seconds] for name, seconds in found.items()}
    medians = {name: statistics.median(several) for name, several in speeds.items()}
    most = limit.speed(batch, task)
    for name, several in speeds.items():
        spread = f"({min(several):.1f} to {max(several):.1f})"
        ratio, share = medians[name] / medians.get(THEIRS, float("nan")), medians[name] / most
        print(
            f"{batch:>5}  {name:<14}{medians[name]:10.1f} tokens/s {spread:<24}{ratio:6.2f} of theirs{share:7.1%} of the limit",
            flush=True,
        )
    return medians[OURS] / most


def judge(share: float | None, device: torch.device) -> str:
    if device.type != "cuda" or share is None:
        return "No verdict: that is for batch 1 on a GPU."
    if share >= GOAL:
        return f"Reached: {share:.1%} of the limit at batch 1, where at least {GOAL:.0%} are asked for."
    return f"MISSED: {share:.1%} of the limit at batch 1, where at least {GOAL:.0%} are asked for."


def introduce(device: torch.device, engine: Engine, limit: Limit) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a processor: these numbers only show that it runs"
    flavour = getattr(engine._forward._layouts, "_flavour", None)
    used = "none" if flavour is None else flavour.name or "torch's own"
    print(f"{name}; torch {torch.__version__} (CUDA {torch.version.cuda}), transformers {transformers.__version__}")
    print(f"flash attention: {used}; recordings: {'used' if engine._forward._graphs else 'none'}")
    print(f"weights {limit.weights / 1e6:.1f} MB, {limit.token} bytes a token, memory {limit.bandwidth / 1e9:.0f} GB/s")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 128])
    sizes = {"tokens": 200, "prompt": 32, "rounds": 3}
    shape = {"hidden": 2048, "layers": 16, "heads": 32, "kv-heads": 8, "intermediate": 8192, "vocabulary": 128256}
    for name, usual in (sizes | shape).items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--without-parts", action="store_true", help="leave out the lines of single parts")
    return parser.parse_args()


def main() -> None:
    args = options()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no GPU that this torch can use, so nothing is measured; --help says how to try it on a processor.")
        return
    transformers.logging.set_verbosity_error()
    device, task = torch.device(args.device), Task(args.prompt, args.tokens)
    model, other = (build(config_of(args), device) for _ in range(2))
    other.load_state_dict(model.state_dict())
    verdict, vocabulary = probe(model), vocabulary_of(args.vocabulary)
    sure(verdict.reason is None, verdict.reason)
    wanted: dict[str, dict[str, bool]] = {OURS: {}} | ({} if args.without_parts else PARTS)
    usual = {"sequences": max(args.batches), "step_tokens": STEP_TOKENS}
    engines = {
        name: engine_of(model, verdict, vocabulary, EngineOptions(**usual, **parts), task) for name, parts in wanted.items()
    }
    limit = limit_of(model, verdict)
    introduce(device, engines[OURS], limit)
    draw = Draw(task, args.vocabulary)
    shares = {}
    for batch in args.batches:
        ours = {name: answers_of(engine, task) for name, engine in engines.items()}
        shares[batch] = show(compare(ours, other, batch, task, draw, args.rounds), batch, task, limit)
    print("recordings made:", ", ".join(f"{name} {engine._forward.recorded}" for name, engine in engines.items()))
    print(judge(shares.get(1), device))


if __name__ == "__main__":
    main()
