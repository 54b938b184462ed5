"""Pictures over HTTP beside the diffusers pipeline called directly: the same prompts and seeds, the same run, in turns.

    python benchmarks/pictures.py [rounds]

The model is `shapes`, which comes with the project. Both sides have the same threads, numbers, steps and guidance, and both
make PNG files. Then four pictures of one request beside four requests for one picture.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import httpx2
from support.serving import PATIENCE, pulled, served

MODEL = "shapes"
THREADS = 1
STEPS = 25
GUIDANCE = 2.0
PROMPTS = ("a red circle on a blue background", "a yellow square on a green background", "a blue triangle on a red background")
RATIO_LIMIT = 1.05
BATCH = 4
BATCH_LIMIT = 1.3

Painter = Callable[[str, int, int], list[bytes]]


def our_config() -> str:
    return f'[models.{MODEL}]\nsource = {json.dumps(pulled(MODEL))}\ndtype = "float32"\nthreads = {THREADS}\n'


def over_http(client: httpx2.Client) -> Painter:
    def paint(prompt: str, seed: int, n: int) -> list[bytes]:
        body = {"model": MODEL, "prompt": prompt, "n": n, "seed": seed, "steps": STEPS, "guidance": GUIDANCE}
        answer = client.post("/v1/images/generations", json=body)
        answer.raise_for_status()
        return [b64decode(picture["b64_json"]) for picture in answer.json()["data"]]

    return paint


def directly() -> Painter:
    import torch
    from diffusers import DiffusionPipeline

    torch.set_num_threads(THREADS)
    pipeline: Any = DiffusionPipeline.from_pretrained(pulled(MODEL), torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def paint(prompt: str, seed: int, n: int) -> list[bytes]:
        generators = [torch.Generator().manual_seed(seed + i) for i in range(n)]
        with torch.inference_mode():
            made = pipeline(
                prompt,
                num_images_per_prompt=n,
                generator=generators,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                height=64,
                width=64,
            )
        return [as_png(image) for image in made.images]

    return paint


def as_png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def seconds(paint: Painter, prompt: str, seed: int, n: int = 1) -> float:
    began = time.perf_counter()
    paint(prompt, seed, n)
    return time.perf_counter() - began


def same(one: bytes, other: bytes) -> bool:
    from PIL import Image

    return Image.open(io.BytesIO(one)).convert("RGB").tobytes() == Image.open(io.BytesIO(other)).convert("RGB").tobytes()


def compare(ours: Painter, direct: Painter, rounds: int) -> None:
    pairs = [(seconds(direct, p, i), seconds(ours, p, i)) for i in range(rounds) for p in PROMPTS]
    ratios = [mine / alone for alone, mine in pairs]
    alone = statistics.median(alone for alone, _ in pairs)
    equal = same(ours(PROMPTS[0], 7, 1)[0], direct(PROMPTS[0], 7, 1)[0])
    print(f"one picture, {STEPS} steps: {alone:.3f} s directly; the same pixels: {equal}")
    print(f"  over HTTP / directly   {tell(ratios)}; limit {RATIO_LIMIT}")


def batch(ours: Painter, rounds: int) -> None:
    """Four requests, one after the other, beside one request for four."""
    ratios = []
    for i in range(rounds):
        apart = sum(seconds(ours, PROMPTS[0], i + k) for k in range(BATCH))
        ratios.append(apart / seconds(ours, PROMPTS[0], i, BATCH))
    print(f"{BATCH} calls / one call of {BATCH}   {tell(ratios)}; limit {BATCH_LIMIT}")


def tell(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"


def main(rounds: int) -> None:
    direct = directly()
    with served(our_config()) as origin, httpx2.Client(base_url=origin, timeout=PATIENCE) as client:
        ours = over_http(client)
        for paint in (ours, direct):
            paint(PROMPTS[0], 0, 1)
        compare(ours, direct, rounds)
        batch(ours, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
