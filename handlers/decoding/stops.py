"""Stop strings that may begin in one token and end in another."""

from __future__ import annotations


class StopMatcher:
    """Passes text on, up to the first stop string, and never any part of one.

    Attributes:
        hit: the stop string that was found, the first of several; nothing may be fed any more.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.hit: str | None = None

    def feed(self, text: str) -> str:
        """The text that is safe to show now."""
        if not self._stops:
            return text
        text = self._held + text
        found = [(where, stop) for stop in self._stops if (where := text.find(stop)) >= 0]
        if found:
            where, self.hit = min(found)
            self._held = ""
            return text[:where]
        cut = min(self._beginning(text, stop) for stop in self._stops)
        self._held = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """What was held back in case it became a stop string."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _beginning(text: str, stop: str) -> int:
        """Where the text's end may be the beginning of ``stop``; the text's length if nowhere."""
        where = text.find(stop[0], max(0, len(text) - len(stop) + 1))
        while where >= 0 and not stop.startswith(text[where:]):
            where = text.find(stop[0], where + 1)
        return len(text) if where < 0 else where
