"""Models that let nobody in for a moment, by their own word: to ask them would cost time that they have not got."""

from __future__ import annotations

import time
from collections.abc import Callable

from openai_compat.errors import RateLimited
from openai_compat.gateway.replica import Headers
from openai_compat.protocol import SHUT

_SHUT = SHUT.encode()


class Doors:
    """By model, until when it is shut."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._words: dict[str, RateLimited] = {}

    def check(self, model_id: str) -> None:
        """Raises ``RateLimited``, as the model would."""
        until = self._until.get(model_id)
        if until is None:
            return
        if self._clock() < until:
            said = self._words[model_id]
            raise RateLimited(said.message, retry_after=said.retry_after)
        del self._until[model_id], self._words[model_id]

    def heard(self, model_id: str, headers: Headers, error: RateLimited) -> None:
        """A refusal of the model."""
        seconds = next((float(value) for name, value in headers if name.lower() == _SHUT), 0.0)
        if seconds > 0:
            self._until[model_id], self._words[model_id] = self._clock() + seconds, error
