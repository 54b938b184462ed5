#!/usr/bin/env python3
"""What the served weights cost in quality: perplexity on a fixed text of 20,000 tokens against float32, each format in turn.

    python benchmarks/perplexity.py MODEL_FOLDER [--formats dtype auto int8 int4] [--tokens 20000]

The text is Python's own documentation of its topics, in order of their names (its sha256 is printed). ``dtype`` is the file's
own type without packing. The rule: within 1 % (bfloat16), 2 % (8 bits), 5 % (4 bits) of float32; "auto" is held to 1 %.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from pydoc_data.topics import topics
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoTokenizer

from handlers.causal_lm import load
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.forward import Forward
from handlers.decoding.probe import probe
from handlers.decoding.scheduler import Chunk
from handlers.types import ModelSpec

ALLOWED = {"dtype": 0.01, "auto": 0.01, "int8": 0.02, "int4": 0.05}
WINDOW = 1000
BLOCK = 16


def windows(folder: str, tokens: int) -> torch.Tensor:
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = AutoTokenizer.from_pretrained(folder, local_files_only=True)(text, verbose=False).input_ids[:tokens]
    print(f"text: sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}, {len(ids)} tokens in windows of {WINDOW}")
    return torch.tensor(ids[: len(ids) // WINDOW * WINDOW]).view(-1, WINDOW)


def served(folder: str, weights: str, dtype: str) -> Forward:
    """The path of a step as the engine takes it: packed tokens, paged cache, fused layers where there are any."""
    spec = ModelSpec(id="measured", path=folder, kind="transformer", device="cpu", dtype=dtype, options={"weights": weights})
    model = load(spec, lambda *_: None).model
    verdict = probe(model)
    assert verdict.reason is None, verdict.reason
    blocks = -(-WINDOW // BLOCK)
    return Forward(model, KeyValueCache(verdict.shapes, blocks=blocks, block_size=BLOCK, dtype=verdict.dtype, device="cpu"))


@torch.inference_mode()
def perplexity(forward: Forward, ids: torch.Tensor) -> float:
    loss = 0.0
    for window in ids:
        blocks = list(range(1, -(-WINDOW // BLOCK) + 1))
        sequence: Any = SimpleNamespace(order=0, ids=window.tolist(), blocks=blocks, scoring=True)
        logits = forward.run([Chunk(sequence, 0, WINDOW)]).rows[:-1]
        loss += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return math.exp(loss / (ids.shape[0] * (WINDOW - 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--formats", nargs="+", default=["dtype", "auto", "int8", "int4"], choices=sorted(ALLOWED))
    parser.add_argument("--tokens", type=int, default=20_000)
    args = parser.parse_args()
    ids = windows(args.folder, args.tokens)
    exact = perplexity(served(args.folder, "dtype", "float32"), ids)
    print(f"float32   {exact:9.4f}", flush=True)
    for weights in args.formats:
        began = time.perf_counter()
        found = perplexity(served(args.folder, weights, "auto"), ids)
        change = found / exact - 1
        verdict = "ok" if change <= ALLOWED[weights] else "TOO MUCH"
        took = f"{time.perf_counter() - began:.0f} s"
        print(f"{weights:<9} {found:9.4f}  {change:+8.3%}  allowed {ALLOWED[weights]:.0%}  {verdict}  {took}", flush=True)


if __name__ == "__main__":
    main()
