"""What transcription costs over HTTP, beside the same weights called directly, on the machine it is run on.

    python benchmarks/transcription.py [--rounds 3] [--seconds 60] [--without-transformers]

Needs the models whisper-base and piper-joe to be pulled; the latter speaks the recording. Each round times, one after the
other: the server, a direct call of faster-whisper with int8 numbers in this process, and the server with the same weights by
transformers. A direct call reads the same file, and so decodes it, too.

Both have to hear the same words. For that numpy's BLAS has one thread here, as it has in a worker: with more it adds in another
order, and one word in a hundred differs, whoever calls.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import statistics
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import httpx2

from handlers import types as t
from handlers.audio import AudioHandler

os.environ["OPENBLAS_NUM_THREADS"] = "1"
from support.serving import pulled, served
from support.whisper_weights import convert

TEXT = """
The lighthouse keeper woke before dawn and climbed the long stairs to the lamp. A storm had passed in the night, and the
sea was still grey and restless. He cleaned the glass, wrote the weather into his book, and put the kettle on the stove.
At seven o'clock the mail boat came around the point with bread, newspapers, and a letter from his sister in the city.
She wanted to know when he would visit her, and whether he still played the violin. He smiled, because he had played for
an hour the evening before, with only the gulls to hear him. In the afternoon a young painter rowed over from the
village. She asked if she could sit on the rocks and draw the tower. They talked about colours, and about the winter,
when nobody comes for weeks. Before she left she gave him a small picture of the harbour, with three red boats and a
yellow house. He hung it over the table, lit the lamp, and watched its beam turn slowly over the dark water, as it had
done every evening for thirty years. On Sunday he would take the early boat, he decided, and bring the violin with him,
and a basket of apples from the little garden behind the wall.
"""
OURS, DIRECT, TRANSFORMERS = "ours over HTTP", "faster-whisper, direct", "ours over HTTP, by transformers"


class Spoken:
    """Keeps the first seconds of what a voice says."""

    def __init__(self) -> None:
        self.pieces: list[t.Sound] = []

    def emit(self, delta: t.Delta) -> None:
        if isinstance(delta, t.SoundDelta):
            self.pieces.append(delta.sound)

    def check(self) -> None:
        """Nobody leaves a benchmark."""

    def spend(self, usage: t.Usage) -> None: ...


def speech(seconds: float) -> bytes:
    """A WAV file of the text, spoken; it ends where ``seconds`` do."""
    options = {"noise_scale": 0.0, "noise_w": 0.0}
    voice = AudioHandler(t.ModelSpec(id="voice", path=pulled("piper-joe"), kind="audio", device="cpu", options=options))
    voice.load_model(lambda stage, done=0, total=0: None)
    spoken = Spoken()
    voice.generate_audio(t.SpeechRequest(text=" ".join(TEXT.split())), spoken)
    rate = spoken.pieces[0].rate
    pcm = b"".join(piece.pcm for piece in spoken.pieces)[: 2 * round(seconds * rate)]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(pcm)
    return file.getvalue()


def our_config(models: dict[str, Path | None]) -> str:
    sources = {name: json.dumps(str(source)) for name, source in models.items() if source}
    return "".join(f"[models.{name}]\nsource = {source}\n" for name, source in sources.items())


def over_http(client: httpx2.Client, model: str, recording: bytes) -> str:
    answer = client.post(
        "/v1/audio/transcriptions", data={"model": model}, files={"file": ("talk.wav", recording, "audio/wav")}
    )
    answer.raise_for_status()
    return str(answer.json()["text"])


def direct(model: object, path: Path) -> str:
    segments, _ = model.transcribe(str(path))  # type: ignore[attr-defined]
    return "".join(segment.text for segment in segments)


def timed(way: Callable[[], str]) -> tuple[float, str]:
    start = time.perf_counter()
    text = way()
    return time.perf_counter() - start, " ".join(re.findall(r"[a-z']+", text.lower()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--without-transformers", action="store_true", help="its weights are slow to convert, and to run")
    args = parser.parse_args()
    from faster_whisper import WhisperModel

    whisper = Path(pulled("whisper-base"))
    recording = speech(args.seconds)
    model = WhisperModel(str(whisper), device="cpu", compute_type="int8", local_files_only=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "talk.wav"
        path.write_bytes(recording)
        converted = None if args.without_transformers else convert(whisper, folder / "converted")
        with (
            served(our_config({"ours": whisper, "transformers": converted})) as origin,
            httpx2.Client(base_url=origin, timeout=600) as client,
        ):
            ways: dict[str, Callable[[], str]] = {
                OURS: lambda: over_http(client, "ours", recording),
                DIRECT: lambda: direct(model, path),
            }
            if converted:
                ways[TRANSFORMERS] = lambda: over_http(client, "transformers", recording)
            compare(ways, args.rounds, args.seconds)


def compare(ways: dict[str, Callable[[], str]], rounds: int, seconds: float) -> None:
    for way in ways.values():
        way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, str] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            took, texts[name] = timed(way)
            times[name].append(took)
    base = statistics.median(times[DIRECT])
    for name, took in times.items():
        middle = statistics.median(took)
        words = "same words" if texts[name] == texts[DIRECT] else f"{agreement(texts[name], texts[DIRECT]):.1%} of the words"
        speed = f"{seconds / middle:5.1f} x real time  {middle / base:5.2f} x direct"
        print(f"{name:32} {middle:6.2f} s  best {min(took):6.2f} s  {speed}  {words}")
    print(f"ours is {times_over(times):.2f} x direct, by the median of the rounds' ratios (limit: 1.05)")


def times_over(times: dict[str, list[float]]) -> float:
    return statistics.median(ours / theirs for ours, theirs in zip(times[OURS], times[DIRECT], strict=True))


def agreement(text: str, other: str) -> float:
    """The share of words in the same order."""
    import difflib

    return difflib.SequenceMatcher(None, text.split(), other.split(), autojunk=False).ratio()


if __name__ == "__main__":
    main()
