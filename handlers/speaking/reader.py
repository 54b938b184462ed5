"""What all models that read a text aloud have in common: sentence by sentence, a voice, a speed, a limit."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from handlers import types as t
from handlers.audio_families import Speaker
from handlers.speaking.sentences import split
from handlers.speaking.sound import Made, Wave, finished, silence, stretched
from handlers.speaking.voices import Voices
from openai_compat.errors import InvalidRequest, UnsupportedCapability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WARM_UP = "Hello there."


class ReaderOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may set in ``options``; a family may add to it.

    ``voices`` gives the model's voices further names (``{alloy = "joe"}``), ``voice`` is the default one; ``pause`` is the
    silence between sentences and ``max_seconds`` the longest answer, both in seconds.
    """

    voices: dict[str, str] = {}
    voice: str | None = None
    pause: Annotated[float, Meta(ge=0, le=5)] = 0.2
    max_seconds: Annotated[float, Meta(gt=0)] = 900.0


class Manner(Struct, frozen=True, kw_only=True):
    """How a text is spoken; ``voice`` is the model's own name of it."""

    voice: str
    speed: float = 1.0
    seed: int | None = None


class Said(Struct, frozen=True):
    """A sentence as sound, and the tokens that the model read and made for it."""

    samples: NDArray[np.float32]
    read: int
    made: int = 0


class Nobody:
    """A ``RunContext`` that wants everything and hears nothing."""

    def emit(self, delta: t.Delta) -> None: ...

    def check(self) -> None: ...

    def spend(self, usage: t.Usage) -> None: ...


class Reader(Speaker):
    """Base of the families: a subclass loads its model, then calls ``_ready``, and says one sentence at a time.

    Attributes:
        keeps_time: whether the model itself speaks at the speed that ``say`` is given.
        language: the only language that the model speaks, if its files say so: a code such as ``en`` or ``en-us``.
    """

    keeps_time = False
    language: str | None = None

    def _ready(self, spec: t.ModelSpec, options: ReaderOptions, *, own: tuple[str, ...], rate: int) -> None:
        self._id = spec.id
        self._options = options
        self._voices = Voices(own, options.voices, options.voice)
        self.voices = self._voices.names
        self.rate = rate

    # ------------------------------------------------------------ what a family does

    @abstractmethod
    def say(self, sentence: str, manner: Manner, ctx: t.RunContext) -> Said | None:
        """None where there is nothing in it that the model could speak."""

    def drawing(self, seed: int | None) -> AbstractContextManager[object]:
        """Where the model takes its random numbers from while it speaks."""
        return nullcontext()

    def warm_up(self) -> None:
        """Say something to nobody: the first time is slow, and shows whether the model works."""
        with self.drawing(None):
            self.say(WARM_UP, Manner(voice=self._voices.find(None)), Nobody())

    # ------------------------------------------------------------ the backend

    def check(self, request: t.Request) -> None:
        asked = _speech(request, self._id)
        self._voices.find(asked.voice)
        if asked.language and self.language and not _same_language(asked.language, self.language):
            message = f"The model '{self._id}' speaks '{self.language}' and not '{asked.language}'."
            raise InvalidRequest(message, param="language")

    def prepare(self, request: t.Request) -> tuple[str, ...]:
        """The sentences, in the order in which they are spoken."""
        return split(_speech(request, self._id).text)

    def config(self, request: t.Request) -> Manner:
        asked = _speech(request, self._id)
        return Manner(voice=self._voices.find(asked.voice), speed=asked.speed, seed=asked.seed)

    def speak(self, inputs: tuple[str, ...], config: Manner, ctx: t.RunContext) -> Made:
        samples = read = made = 0
        with self.drawing(config.seed):
            for sentence in inputs:
                ctx.check()
                said = self.say(sentence, config, ctx)
                if said is None or not said.samples.size:
                    continue
                wave = self._paced(said.samples, config.speed, after=bool(samples))
                samples, read, made = samples + wave.size, read + said.read, made + said.made
                self._limit(samples)
                ctx.emit(Wave(wave, self.rate))  # type: ignore[arg-type]  # the handler makes a delta of it
        if not samples:
            raise InvalidRequest(f"There is nothing in the text that '{self._id}' could speak.", param="input")
        return Made(samples / self.rate, read, made)

    def finish(self, raw: Any, request: t.Request) -> t.SoundDelta | t.SoundResult:
        return finished(raw)

    def _paced(self, samples: NDArray[np.float32], speed: float, *, after: bool) -> NDArray[np.float32]:
        """At the right speed, with a pause in front of all sentences but the first."""
        import numpy as np

        if speed != 1.0 and not self.keeps_time:
            samples = stretched(samples, self.rate, speed)
        return np.concatenate([silence(self._options.pause / speed, self.rate), samples]) if after else samples

    def _limit(self, samples: int) -> None:
        most = self._options.max_seconds
        if samples > most * self.rate:
            raise InvalidRequest(f"The speech is longer than {most:g} seconds.", param="input")


def _speech(request: t.Request, model: str) -> t.SpeechRequest:
    if not isinstance(request, t.SpeechRequest) or request.task != "speak":
        raise UnsupportedCapability(f"The model '{model}' speaks texts, and makes no other sound.", param="model")
    return request


def _same_language(asked: str, own: str) -> bool:
    """``en`` is any English, ``en-GB`` is not ``en-US``; the spelling does not matter."""
    first, second = (code.lower().replace("_", "-") for code in (asked, own))
    return first == second or first == second.partition("-")[0] or second == first.partition("-")[0]
