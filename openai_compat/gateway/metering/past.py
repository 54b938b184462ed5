"""What keys used within the last day that no window holds yet: before the server began, or for work without a request."""

from __future__ import annotations

from collections import deque

from openai_compat.gateway.metering.quota import DAY, Use

_FEW = 256


class Past:
    """By key, oldest first. Times never go back."""

    def __init__(self) -> None:
        self._uses: dict[str, deque[Use]] = {}
        self._many = _FEW

    def add(self, key_id: str, use: Use) -> None:
        uses = self._uses.get(key_id)
        if uses is None:
            uses = self._uses[key_id] = deque()
            self._tidy(use.when)
        uses.append(use)
        while uses[0].when < use.when - DAY:
            uses.popleft()

    def of(self, key_id: str) -> tuple[Use, ...]:
        return tuple(self._uses.get(key_id, ()))

    def _tidy(self, now: float) -> None:
        """Drop the keys of which all is older than a day, each time that there are twice as many."""
        if len(self._uses) > self._many:
            self._uses = {key: uses for key, uses in self._uses.items() if not uses or uses[-1].when >= now - DAY}
            self._many = max(_FEW, 2 * len(self._uses))
