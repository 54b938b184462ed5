"""One answer's text while it grows: from tokens to text that is safe to show, and whether the text ends it."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from handlers import types as t
from handlers.decoding.detokenizer import detokenizer
from handlers.decoding.logprobs import Scored, spell
from handlers.decoding.params import TextConfig
from handlers.decoding.stops import StopMatcher
from handlers.decoding.vocabulary import Vocabulary


class Piece(Struct, frozen=True, kw_only=True):
    """A step's raw output: text of one choice that is safe to show, with the log probabilities of its tokens."""

    index: int
    text: str
    logprobs: tuple[t.TokenLogprob, ...] = ()


class Answer(Struct, frozen=True, kw_only=True):
    """The raw output of one finished choice. ``tokens`` holds every generated id, the one that ended the answer too; ``stop``
    is the stop string that did.
    """

    index: int
    text: str
    tokens: tuple[int, ...]
    finish_reason: t.FinishReason
    logprobs: tuple[t.TokenLogprob, ...] | None = None
    mean_logprob: float = 0.0
    stop: str | None = None


class Transcript:
    """The text of one choice.

    Args:
        limit: tokens it may have.
        offset: characters of echoed prompt that stand before the answer.

    Attributes:
        limit: the same.
        finish_reason: why the answer ended; None while it goes on.
    """

    def __init__(self, index: int, config: TextConfig, vocabulary: Vocabulary, *, limit: int, offset: int = 0) -> None:
        self.index = index
        self.finish_reason: t.FinishReason | None = None if limit > 0 else "length"
        self.tokens: list[int] = []
        self._config = config
        self.limit = limit
        self._vocabulary = vocabulary
        self._detokenizer = detokenizer(vocabulary)
        self._stops = StopMatcher(config.stop)
        self._decoded = offset
        self._shown = offset
        self._texts: list[str] = []
        self._waiting: deque[t.TokenLogprob] = deque()
        self._logprobs: list[t.TokenLogprob] = []
        self._score = 0.0

    @property
    def finished(self) -> bool:
        return self.finish_reason is not None

    def accept(self, token: int, scored: Scored | None = None, *, last: bool = False) -> Piece | None:
        """Take the next token; the text that became safe with it, if any. After the ``last`` one nothing may follow."""
        self.tokens.append(token)
        if scored is not None:
            self._score += scored.logprob or 0.0
        text = self._text_of(token, scored)
        if last and not self.finished:
            self.finish_reason = "stop"
        if not self.finished and len(self.tokens) >= self.limit:
            self.finish_reason = "length"
        if self.finished and not self._stops.hit:
            text += self._stops.finish()
        return self._release(text)

    def answer(self) -> Answer:
        return Answer(
            index=self.index,
            text="".join(self._texts),
            tokens=tuple(self.tokens),
            finish_reason=self.finish_reason or "length",
            logprobs=None if self._config.logprobs is None else tuple(self._logprobs),
            mean_logprob=self._score / max(1, len(self.tokens)),
            stop=self._stops.hit,
        )

    def _text_of(self, token: int, scored: Scored | None) -> str:
        """Stops count from ``min_tokens`` on; a stop string that was complete before then is text."""
        if token in self._config.stop_ids:
            self.finish_reason = "stop"
            return ""
        text = self._detokenizer.feed(token)
        if scored is not None and self._config.logprobs is not None:
            self._waiting.append(spell(scored, self._vocabulary, self._decoded))
        self._decoded += len(text)
        if len(self.tokens) < self._config.min_tokens:
            return text
        text = self._stops.feed(text)
        if self._stops.hit:
            self.finish_reason = "stop"
        return text

    def _release(self, text: str) -> Piece | None:
        """A token's log probability goes out with the first text at or behind its offset."""
        if not text:
            return None
        self._shown += len(text)
        ready: list[t.TokenLogprob] = []
        while self._waiting and self._waiting[0].text_offset < self._shown:
            ready.append(self._waiting.popleft())
        self._texts.append(text)
        self._logprobs += ready
        return Piece(index=self.index, text=text, logprobs=tuple(ready))
