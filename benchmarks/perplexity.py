#!/usr/bin/env python3
"""What the served weights cost in quality: perplexity on a fixed text of 20,000 tokens against float32, each format in turn.

    python benchmarks/perplexity.py [MODEL_FOLDER] [--formats bf16 auto int8] [--tokens 20000]

The text is Python's own documentation of its topics, in order of their names (its sha256 is printed), in windows of 1,000
tokens. Every format goes along the engine's path (packed tokens, paged cache, fused layers where there are any), window by
window, so that no more than one window's logits of two formats are in memory. ``dtype`` is the file's own type without packing.
The rule: within 1 % (bfloat16), 2 % (8 bits), 5 % (4 bits) of float32; ``auto``, which is to lose next to nothing, within 1 %
whatever its bits. The mean divergence from float32 (KL, nats) and the largest change of a token's log probability stand beside.
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
from support.serving import pulled
from transformers import AutoTokenizer

from handlers.causal_lm import load
from handlers.decoding.cache import KeyValueCache
from handlers.decoding.forward import Forward
from handlers.decoding.kernels.native import Matrix
from handlers.decoding.probe import probe
from handlers.decoding.scheduler import Chunk
from handlers.types import ModelSpec

ALLOWED = {16: 0.01, 8: 0.02, 4: 0.05}
FORMATS = ("dtype", "bf16", "auto", "int8", "int4")
EXACT = "float32"
WINDOW = 1000
BLOCK = 16


def windows(folder: str, tokens: int) -> torch.Tensor:
    text = "\n\n".join(topics[name] for name in sorted(topics))
    ids = AutoTokenizer.from_pretrained(folder, local_files_only=True)(text, verbose=False).input_ids[:tokens]
    print(f"text: sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}, {len(ids)} tokens in windows of {WINDOW}")
    return torch.tensor(ids[: len(ids) // WINDOW * WINDOW]).view(-1, WINDOW)


class Served:
    """A format on the path of a step as the engine takes it, and what it has cost so far."""

    def __init__(self, folder: str, name: str) -> None:
        weights, dtype = ("dtype", "float32") if name == EXACT else (name, "auto")
        options = {"weights": weights}
        spec = ModelSpec(id="measured", path=folder, kind="transformer", device="cpu", dtype=dtype, options=options)
        model = load(spec, lambda *_: None).model
        verdict = probe(model)
        assert verdict.reason is None, verdict.reason
        cache = KeyValueCache(
            verdict.shapes, blocks=-(-WINDOW // BLOCK), block_size=BLOCK, dtype=verdict.dtype, device=model.device
        )
        self.name = name
        self.bits = min((one.bits for one in packed(model)), default=16)
        self.threads = torch.get_num_threads()
        self.loss = self.divergence = self.furthest = self.seconds = 0.0
        self._forward = Forward(model, cache)

    def score(self, window: torch.Tensor, exact: torch.Tensor | None) -> torch.Tensor:
        """Log probabilities of all tokens at every place of a window but the last; those of float32 are ``exact``."""
        torch.set_num_threads(self.threads)
        began = time.perf_counter()
        blocks = list(range(1, -(-WINDOW // BLOCK) + 1))
        sequence: Any = SimpleNamespace(embedded=None, order=0, ids=window.tolist(), blocks=blocks, scoring=True)
        found = self._forward.run([Chunk(sequence, 0, WINDOW)]).rows[:-1].log_softmax(-1)
        self.loss += torch.nn.functional.nll_loss(found, window[1:], reduction="sum").item()
        self.seconds += time.perf_counter() - began
        if exact is not None:
            told = (exact - found).gather(1, window[1:, None])
            self.furthest = max(self.furthest, told.abs().max().item())
            self.divergence += torch.nn.functional.kl_div(found, exact, reduction="sum", log_target=True).item()
        return found


def packed(model: Any) -> list[Matrix]:
    layers = (getattr(module.forward, "func", None) for module in model.modules())
    return [layer.__self__ for layer in layers if isinstance(getattr(layer, "__self__", None), Matrix)]


def show(one: Served, exact: Served, tokens: int) -> None:
    found = math.exp(one.loss / tokens)
    line = f"{one.name:<9} {found:9.4f}"
    if one is not exact:
        change, allowed = found / math.exp(exact.loss / tokens) - 1, 0.01 if one.name == "auto" else ALLOWED[one.bits]
        verdict = "ok" if change <= allowed else "TOO MUCH"
        line += f"  {change:+8.3%}  allowed {allowed:.0%}  {verdict}  KL {one.divergence / tokens:.1e}  max {one.furthest:.2f}"
    print(f"{line}  {one.seconds:.0f} s", flush=True)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--formats", nargs="+", default=["bf16", "auto", "int8"], choices=FORMATS)
    parser.add_argument("--tokens", type=int, default=20_000)
    args = parser.parse_args()
    folder = args.folder or pulled("smollm2-135m-instruct")
    ids = windows(folder, args.tokens)
    exact, *others = (Served(folder, name) for name in (EXACT, *args.formats))
    for window in ids:
        wanted = exact.score(window, None)
        for one in others:
            one.score(window, wanted)
    for one in (exact, *others):
        show(one, exact, ids.shape[0] * (WINDOW - 1))


if __name__ == "__main__":
    main()
