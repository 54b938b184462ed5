"""The one object that travels through the engine: a sequence of tokens on its way to an answer."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from handlers.decoding import prefix
from handlers.decoding.embedded import Embedded
from handlers.decoding.logprobs import Scored
from handlers.decoding.sampler import Choices
from handlers.decoding.transcript import Piece, Transcript

if TYPE_CHECKING:
    from handlers.decoding.ticket import Ticket


UNREAD = -1
"""In place of a token that was chosen on the device and has not been read; only at the end of a sequence."""


class State(Enum):
    WAITING = "waiting"
    """It holds no blocks: new, or put back because blocks ran out."""
    FORKING = "forking"
    """Another sequence runs its prompt for it."""
    RUNNING = "running"
    FINISHED = "finished"


class Sequence:
    """One choice of one request.

    Attributes:
        order: number of its arrival; the highest is the youngest.
        ids: the prompt and every token chosen since, the last perhaps ``UNREAD``.
        embedded: what stands in the prompt beside its tokens.
        computed: how many of ``ids`` have their keys and values in the cache.
        blocks: its block table.
        names: chained names of its full blocks, as far as they are known.
        followers: further choices of the same prompt, which begin where this one's prompt ends.
        scores: log probabilities of the prompt's tokens, where ``echo`` wants them.
        reused: tokens of its prompt that were found in the cache when it first began.
    """

    def __init__(
        self,
        ticket: Ticket[Any],
        transcript: Transcript,
        choices: Choices,
        prompt: tuple[int, ...],
        order: int,
        embedded: Embedded | None = None,
    ) -> None:
        self.ticket = ticket
        self.transcript = transcript
        self.choices = choices
        self.order = order
        self.state = State.WAITING
        self.embedded = embedded
        self.ids = list(prompt)
        self.prompt_length = len(prompt)
        self.computed = 0
        self.blocks: list[int] = []
        self.names: list[bytes] = []
        self.root = prefix.root("")
        self.followers: list[Sequence] = []
        self.scores: list[Scored] | None = None
        self.reused: int | None = None

    @property
    def pending(self) -> int:
        """Tokens that the model has not seen yet: one while decoding, more while the prompt is being run."""
        return len(self.ids) - self.computed

    @property
    def width(self) -> int:
        """How many sequences run once its prompt is through."""
        return 1 + len(self.followers)

    @property
    def scoring(self) -> bool:
        return self.scores is not None and len(self.scores) < self.prompt_length

    @property
    def is_full(self) -> bool:
        """Whether it ends with a token that was chosen and not read yet."""
        return self.ids[-1] == UNREAD and len(self.ids) - self.prompt_length >= self.transcript.limit

    def follow(self, followers: list[Sequence]) -> None:
        """Let others begin where its prompt ends."""
        self.followers = followers
        for follower in followers:
            follower.state = State.FORKING

    def expect(self) -> None:
        """Its next token has been chosen."""
        self.ids.append(UNREAD)

    def learn(self, token: int) -> None:
        """What that token is. Where the model broke there is none, and the sequence will go no further."""
        self.ids[-1] = max(0, token)

    def accept(self, token: int, scored: Scored | None) -> Piece | None:
        """Let ``token`` be part of the answer; the text that became safe with it, if any."""
        return self.transcript.accept(token, scored, last=self.choices.finished)

    def name_of(self, index: int, block_size: int) -> bytes:
        """The chained name of its full block number ``index``."""
        while len(self.names) <= index:
            start, stop = len(self.names) * block_size, (len(self.names) + 1) * block_size
            parent = self.names[-1] if self.names else self.root
            other = self.embedded.digest(start, stop) if self.embedded is not None else b""
            self.names.append(prefix.extend(parent, self.ids[start:stop], other))
        return self.names[index]
