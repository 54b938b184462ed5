"""One request in the engine: its sequences, whom its answers go to, and its result once it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from handlers.decoding.embedded import Embedded
from handlers.decoding.params import TextConfig
from handlers.decoding.sampler import Matcher
from handlers.decoding.transcript import Answer, Piece, Transcript
from handlers.deferred import Deferred, Driver
from handlers.types import RunContext

ResultT = TypeVar("ResultT")
OnPiece = Callable[[Piece], None]
NewMatcher = Callable[[], Matcher]


class Prompt(Struct, frozen=True, kw_only=True):
    """A prompt ready to run.

    ``text`` is what ``echo`` repeats; ``limit`` is how many tokens each answer may have. Where a prompt holds pictures or
    sounds, ``embedded`` is what the engine puts in their places, or ``inputs`` what ``generate()`` is given beside the tokens.
    """

    ids: tuple[int, ...]
    text: str
    limit: int
    inputs: dict[str, Any] = {}
    embedded: Embedded | None = None


class Generation(Struct, frozen=True, kw_only=True):
    """A request's whole raw output: answers by prompt, of which the ``keep`` likeliest are wanted; counts in tokens."""

    answers: tuple[tuple[Answer, ...], ...]
    keep: int
    prompt_tokens: int
    cached_tokens: int = 0


OnEnd = Callable[[Generation], ResultT]


class TextEngine(Driver, Protocol):
    """What answers prompts: many requests at once, or each by itself."""

    def submit(
        self,
        prompts: tuple[Prompt, ...],
        config: TextConfig,
        ctx: RunContext,
        *,
        on_piece: OnPiece,
        on_end: OnEnd[ResultT],
        salt: str = "",
        new_matcher: NewMatcher | None = None,
    ) -> Ticket[ResultT]:
        """Take a request; it is answered by the coming steps.

        Args:
            on_piece: gets each piece of text as soon as it is safe.
            on_end: makes the result of the raw output.
            salt: requests of different salts never share what was computed.
            new_matcher: makes the grammar's state for one answer.
        """


class Ticket(Deferred[ResultT], Generic[ResultT]):
    """A submitted request.

    Attributes:
        ctx: says whether the request is still wanted.
        ended: it has its result or its error.
    """

    def __init__(self, driver: Driver, config: TextConfig, ctx: RunContext, on_piece: OnPiece, on_end: OnEnd[ResultT]) -> None:
        self.config = config
        self.ctx = ctx
        self.ended = False
        self._driver = driver
        self._on_piece = on_piece
        self._on_end = on_end
        self._error: BaseException | None = None
        self._result: ResultT | None = None

    @property
    def driver(self) -> Driver:
        return self._driver

    def poll(self) -> ResultT | None:
        if self._error is not None:
            raise self._error
        return self._result

    def show(self, piece: Piece | None) -> None:
        if piece is not None:
            self._on_piece(piece)

    def finish(self, generation: Generation) -> None:
        self._result = self._on_end(generation)
        self.ended = True

    def fail(self, error: BaseException) -> None:
        self._error = error
        self.ended = True


def echoed(transcript: Transcript, echo: Piece | None) -> Answer:
    """The answer behind its prompt, where that is to be repeated."""
    answer = transcript.answer()
    if echo is None:
        return answer
    logprobs = None if answer.logprobs is None else echo.logprobs + answer.logprobs
    return Answer(
        index=answer.index,
        text=echo.text + answer.text,
        tokens=answer.tokens,
        finish_reason=answer.finish_reason,
        logprobs=logprobs,
        mean_logprob=answer.mean_logprob,
        stop=answer.stop,
    )
