"""The engine's steps on this machine: tokens a second against a bare decode loop in the same run, and where a step's time goes.

    python benchmarks/engine_steps.py [MODEL_FOLDER] [--weights auto dtype int8 int4] [--tokens 64] [--rounds 3]

The bare loop is torch alone, one thread, bfloat16, a batch of equal prompts, the library's own cache, no server, no sampling.
Engine and loop take turns; the median of the rounds and their spread are printed. Without a folder the default model is taken.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
from support.serving import pulled

from handlers import types as t
from handlers.decoding.engine import Engine
from handlers.transformer import TransformerHandler

STREAMS = (1, 8, 32)
LONG = 1000


class Silent:
    """Nobody listens."""

    def emit(self, delta: t.Delta) -> None: ...

    def check(self) -> None: ...

    def spend(self, usage: t.Usage) -> None: ...


class Stopwatch:
    """Seconds spent in some methods."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, name: str) -> None:
        method = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                self.seconds[name.strip("_")] += time.perf_counter() - began

        setattr(owner, name, timed)


def loaded(folder: str, dtype: str, weights: str) -> TransformerHandler:
    spec = t.ModelSpec(
        id="measured", path=folder, kind="transformer", device="cpu", dtype=dtype, threads=1, options={"weights": weights}
    )
    handler = TransformerHandler(spec)
    handler.load_model(lambda *_: None)
    return handler


def request(prompt: str, tokens: int, **sampling: Any) -> t.TextRequest:
    message = t.Message(role="user", parts=(t.TextPart(text=prompt),))
    settings = {"temperature": 0.0, "max_tokens": tokens, "ignore_eos": True, **sampling}
    return t.TextRequest(messages=(message,), sampling=t.Sampling(**settings))


def engine_rate(handler: TransformerHandler, streams: int, tokens: int, mark: str, **sampling: Any) -> tuple[float, int]:
    """Tokens a second, prompts included, and the number of steps."""
    prompts = [f"{mark}: write a long story about number {i}. Use simple words." for i in range(streams)]
    began = time.perf_counter()
    results = [handler.generate_text(request(prompt, tokens, **sampling), Silent()) for prompt in prompts]
    steps = 0
    while any(result.poll() is None for result in results):
        results[0].driver.step()
        steps += 1
    return streams * tokens / (time.perf_counter() - began), steps


@torch.inference_mode()
def loop_rate(model: Any, streams: int, tokens: int, length: int) -> float:
    ids = torch.randint(3, 1000, (streams, length))
    began = time.perf_counter()
    output = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    for _ in range(tokens - 1):
        token = output.logits[:, -1:].argmax(-1)
        output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
    return streams * tokens / (time.perf_counter() - began)


def first_token(handler: TransformerHandler, prompt: str) -> float:
    began = time.perf_counter()
    result = handler.generate_text(request(prompt, 1), Silent())
    while result.poll() is None:
        result.driver.step()
    return time.perf_counter() - began


def compare(handler: TransformerHandler, plain: Any, tokens: int, rounds: int) -> None:
    for streams in STREAMS:
        ours, bare = [], []
        for mark in range(rounds):
            ours.append(engine_rate(handler, streams, tokens, f"{streams} {mark}")[0])
            bare.append(loop_rate(plain, streams, tokens, 40))
        ratios = sorted(one / other for one, other in zip(ours, bare, strict=True))
        print(
            f"  {streams:2} streams: {statistics.median(ours):6.1f} tokens/s, bare loop {statistics.median(bare):6.1f},"
            f" ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


def dissect(handler: TransformerHandler, tokens: int) -> None:
    """Where the time of a step with 32 sequences goes, by the means of its parts."""
    engine = handler._engine
    if not isinstance(engine, Engine):
        print("  served one request at a time: no steps to look into")
        return
    for name, sampling in (("greedy", {}), ("top_p", {"temperature": 0.8, "top_p": 0.9})):
        watch = Stopwatch()
        watched = [
            (engine._scheduler, "schedule"),
            (engine._forward, "run"),
            (engine, "_sample"),
            (engine, "_read"),
            (engine, "_emit"),
        ]
        for owner, part in watched:
            watch.watch(owner, part)
        rate, steps = engine_rate(handler, 32, tokens, name, **sampling)
        parts = ", ".join(f"{part} {seconds / steps * 1e3:.2f}" for part, seconds in watch.seconds.items())
        print(f"  a step of 32, {name}: {32 * tokens / rate / steps * 1e3:.1f} ms, of which {parts}", flush=True)
        for owner, part in watched:
            delattr(owner, part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--weights", nargs="+", default=["auto", "dtype"])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM

    folder = args.folder or pulled("smollm2-135m-instruct")
    torch.set_num_threads(1)
    plain = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.bfloat16).eval()
    for weights in args.weights:
        handler = loaded(folder, "bfloat16" if weights == "dtype" else "auto", weights)
        torch.set_num_threads(1)
        print(f"weights '{weights}'")
        compare(handler, plain, args.tokens, args.rounds)
        dissect(handler, args.tokens)
        long = "one two three four " * (LONG // 4)
        cold, warm = first_token(handler, long), first_token(handler, long)
        print(
            f"  a prompt of {LONG} tokens, first token: {cold * 1e3:.0f} ms, again {warm * 1e3:.0f} ms: {cold / warm:.1f} times"
        )


if __name__ == "__main__":
    main()
