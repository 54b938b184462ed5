"""What all models that make music or sound from a description have in common."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from handlers import types as t
from handlers.audio_families import Speaker
from handlers.speaking.sound import finished
from openai_compat.errors import InvalidRequest, UnsupportedCapability, UnsupportedParameter

SHORTEST = 0.1


class Wish(Struct, frozen=True, kw_only=True):
    """What is to be made."""

    seconds: float
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None


class Maker(Speaker):
    """Base of the families: a subclass loads its model and calls ``_able``; then ``speak`` makes what is asked for.

    Attributes:
        voices: none; a description says what is heard.
    """

    voices = ()

    def _able(self, spec: t.ModelSpec, *, usual: float, most: float, lacks: tuple[str, ...] = ()) -> None:
        """``usual`` and ``most`` are seconds; ``lacks`` are request fields that the family cannot honour."""
        self._id = spec.id
        self._usual = min(usual, most)
        self._most = most
        self._lacks = lacks

    def check(self, request: t.Request) -> None:
        asked = _sound(request, self._id)
        for name in self._lacks:
            if getattr(asked, name) is not None:
                raise UnsupportedParameter(f"Unsupported parameter: '{name}'. '{self._id}' has no such setting.", param=name)
        if asked.seconds is not None and not SHORTEST <= asked.seconds <= self._most:
            message = f"'{self._id}' makes sounds of {SHORTEST:g} to {self._most:g} seconds."
            raise InvalidRequest(message, param="seconds")

    def prepare(self, request: t.Request) -> str:
        """The description."""
        return _sound(request, self._id).text

    def config(self, request: t.Request) -> Wish:
        asked = _sound(request, self._id)
        return Wish(
            seconds=self._usual if asked.seconds is None else asked.seconds,
            negative_prompt=asked.negative_prompt,
            steps=asked.steps,
            guidance=asked.guidance,
            seed=asked.seed,
        )

    def finish(self, raw: Any, request: t.Request) -> t.SoundDelta | t.SoundResult:
        return finished(raw)


def _sound(request: t.Request, model: str) -> t.SpeechRequest:
    if not isinstance(request, t.SpeechRequest) or request.task != "sound":
        raise UnsupportedCapability(f"The model '{model}' makes sounds from a description, and cannot speak.", param="model")
    return request
