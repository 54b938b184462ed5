"""Speech over HTTP beside the voice called directly: the same sentences, the same run, in turns.

    python benchmarks/speech.py [repeats]

Needs the default voice to be pulled. The real-time factor is the seconds that a second of sound takes; the direct call is
onnxruntime alone, on phonemes that are there already. The voice's randomness is off, so that both make the same sound.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2
from support.serving import PATIENCE, pulled, served

from handlers import types as t
from handlers.speaking.piper import Piper
from handlers.speaking.sentences import split
from openai_compat.defaults import DEFAULT_MODELS

MODEL = "piper-joe"
THREADS = 1
OPTIONS = {"noise_scale": 0.0, "noise_w": 0.0, "pause": 0.0}
TEXT = (
    "The rain had stopped before the morning came. A pale light lay on the roofs of the old town. "
    "Somewhere below the window a cart rolled over the stones. The baker opened his door and looked up at the sky. "
    "It was going to be a clear and quiet day."
)
RTF_LIMIT = 1.10
FIRST_LIMIT = 1 / 3


class Heard(NamedTuple):
    """Seconds to the first byte, to the last, and of sound."""

    first: float
    whole: float
    sound: float


def our_config() -> str:
    options = "\n".join(f"{name} = {value}" for name, value in OPTIONS.items())
    source = json.dumps(pulled(MODEL))
    return f'[models.{MODEL}]\nsource = {source}\nkind = "audio"\nthreads = {THREADS}\n[models.{MODEL}.options]\n{options}\n'


def over_http(client: httpx2.Client, format: str) -> Heard:
    body: dict[str, Any] = {"model": MODEL, "input": TEXT, "response_format": format}
    began = time.perf_counter()
    first, size = 0.0, 0
    with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            first = first or time.perf_counter() - began
            size += len(chunk)
    seconds = size / 48_000 if format == "pcm" else 0.0
    return Heard(first, time.perf_counter() - began, seconds)


def directly() -> Callable[[], Heard]:
    """onnxruntime on the phonemes of each sentence, with the settings that the server's session has."""
    import numpy as np

    spec = t.ModelSpec(id=MODEL, path=pulled(MODEL), kind="audio", threads=THREADS, options=OPTIONS)
    piper = Piper(spec, lambda stage, done=0, total=0: None)
    session, rate = piper._session, piper.rate
    ids = [piper._voice.ids(sentence) for sentence in split(TEXT)]
    scales = np.array([0.0, 1.0, 0.0], dtype=np.float32)

    def call() -> Heard:
        began, samples, first = time.perf_counter(), 0, 0.0
        for one in ids:
            inputs = {"input": one[None], "input_lengths": np.array([len(one)]), "scales": scales}
            samples += session.run(None, inputs)[0].size
            first = first or time.perf_counter() - began
        return Heard(first, time.perf_counter() - began, samples / rate)

    return call


def main(repeats: int) -> None:
    direct = directly()
    with served(our_config()) as origin, httpx2.Client(base_url=origin, timeout=PATIENCE) as client:
        for _ in range(2):
            over_http(client, "pcm")
            direct()
        for format in ("pcm", "mp3"):
            report(format, [(direct(), over_http(client, format)) for _ in range(repeats)])


def report(format: str, pairs: list[tuple[Heard, Heard]]) -> None:
    sound = pairs[0][0].sound
    ratios = [served.whole / alone.whole for alone, served in pairs]
    shares = [served.first / served.whole for _, served in pairs]
    own = statistics.median(alone.whole for alone, _ in pairs) / sound
    ours = statistics.median(served.whole for _, served in pairs) / sound
    print(f"{format}: {sound:.1f} s of sound; real-time factor {ours:.4f} over HTTP, {own:.4f} directly")
    for name, values, limit in (("over HTTP / directly", ratios, RTF_LIMIT), ("first bytes / whole", shares, FIRST_LIMIT)):
        print(f"  {name:22}{statistics.median(values):.3f}  ({min(values):.3f} to {max(values):.3f}; limit {limit:.3f})")


if __name__ == "__main__":
    if MODEL not in DEFAULT_MODELS:
        raise SystemExit(f"there is no model {MODEL}")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
