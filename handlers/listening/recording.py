"""What every listening backend does with a recording: refuse one too short, take it as numbers, tell how far it is."""

from __future__ import annotations

import logging
import time
import zlib
from typing import TYPE_CHECKING

from handlers import types as t
from openai_compat.errors import InvalidRequest, UnsupportedCapability, UnsupportedParameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

SHORTEST = 0.1
"""Seconds; OpenAI's API refuses shorter recordings too."""
LONG = 60.0
"""Seconds of recording from which the log tells how far it is."""
REPORT_EVERY = 10.0
STEP = 0.2


def recording_of(request: t.Request, *, tasks: tuple[str, ...], model: str) -> t.AudioTaskRequest:
    """The request, if it is one of ``tasks``. Raises ``InvalidRequest`` for another task and a recording too short."""
    if not isinstance(request, t.AudioTaskRequest):
        raise UnsupportedCapability(f"The model '{model}' listens only.", param="model")
    if request.task not in tasks:
        raise UnsupportedCapability(f"The model '{model}' does not {request.task} recordings.", param="model")
    if request.audio.seconds < SHORTEST:
        raise InvalidRequest(f"The recording is too short: at least {SHORTEST:g} seconds are needed.", param="file")
    return request


def refuse(request: t.AudioTaskRequest, reasons: dict[str, str]) -> None:
    """Raises ``UnsupportedParameter`` for the first field of ``reasons`` that the request sets."""
    for param, reason in reasons.items():
        if getattr(request, param):
            raise UnsupportedParameter(f"Unsupported parameter: '{param}'. {reason}", param=param)


def refuse_silence_settings(request: t.AudioTaskRequest) -> None:
    """For models that do not look for silence. How a recording is cut is left to the model by ``auto``, so that is no wish."""
    if request.voice_activity not in (None, t.VoiceActivity()):
        reason = "This model does not look for silence; it takes 'auto'."
        raise UnsupportedParameter(f"Unsupported parameter: 'chunking_strategy'. {reason}", param="chunking_strategy")


def waveform(sound: t.Sound) -> NDArray[np.float32]:
    """One channel, from -1 to 1."""
    import numpy as np

    return np.frombuffer(sound.pcm, dtype="<i2").astype(np.float32) / 32768.0


def temperatures(asked: float | None) -> tuple[float, ...]:
    """The first try and those after it, each taken where the one before was repetitive or improbable."""
    start = asked or 0.0
    return tuple(round(start + i * STEP, 2) for i in range(int((1.0 - start) / STEP + 1e-6) + 1))


def compression_ratio(text: str) -> float:
    """How often a text repeats itself, as Whisper measures it."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


class Progress:
    """Tells the log how much of a long recording is done, not more often than every ``REPORT_EVERY`` seconds."""

    def __init__(self, seconds: float, *, model: str) -> None:
        self._seconds = seconds
        self._model = model
        self._next = time.monotonic() + REPORT_EVERY

    def at(self, second: float) -> None:
        now = time.monotonic()
        if self._seconds > LONG and now >= self._next:
            self._next = now + REPORT_EVERY
            logger.info("%s heard %.0f of %.0f seconds", self._model, min(second, self._seconds), self._seconds)


class RunningText:
    """Text that grows piece by piece; the pieces joined are the whole without white space around it."""

    def __init__(self) -> None:
        self.text = ""
        self._space = ""

    def add(self, piece: str) -> str:
        """What may be shown of the text now."""
        found = self._space + piece if self.text else piece.lstrip()
        shown = found.rstrip()
        self._space = found[len(shown) :] if self.text or shown else ""
        self.text += shown
        return shown


def emit_segment(segment: t.Segment, text: RunningText, ctx: t.RunContext) -> None:
    """The segment's text, then the segment."""
    if shown := text.add(segment.text):
        ctx.emit(t.TextDelta(index=0, text=shown))
    ctx.emit(t.SegmentDelta(segment=segment))
