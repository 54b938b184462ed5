"""Continuous batching: every request's sequences share each step of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from handlers.decoding import prefix
from handlers.decoding.cache import BlockPool
from handlers.decoding.forward import Forward, Logits
from handlers.decoding.launch import Chosen, Launch
from handlers.decoding.logprobs import Scored, score, spell
from handlers.decoding.params import TextConfig
from handlers.decoding.sampler import BROKEN, Choices
from handlers.decoding.scheduler import Chunk, Limits, Scheduler
from handlers.decoding.sequence import Sequence, State
from handlers.decoding.ticket import Generation, NewMatcher, OnEnd, OnPiece, ResultT, Ticket, echoed
from handlers.decoding.ticket import Prompt as Prompt
from handlers.decoding.transcript import Piece, Transcript
from handlers.decoding.transfer import place
from handlers.decoding.vocabulary import Vocabulary
from handlers.types import RunContext, Usage
from openai_compat.errors import APIError

if TYPE_CHECKING:
    from torch import Tensor


class Group:
    """The answers to one prompt of a request, which is run once for all of them."""

    def __init__(self, prompt: Prompt, sequences: list[Sequence]) -> None:
        self.prompt = prompt
        self.sequences = sequences
        self.echo: Piece | None = None

    @property
    def leader(self) -> Sequence:
        return self.sequences[0]

    @property
    def finished(self) -> bool:
        repeated = self.leader.scores is None or self.echo is not None
        return repeated and all(sequence.transcript.finished for sequence in self.sequences)


class Engine:
    """Serves one model that passed the probe. It belongs to the model's thread.

    Args:
        vocab_size: length of the model's logits.
        ahead: start each step before the tokens of the one before are read, so that a GPU never waits for Python. An answer
            that a token ends may be run one step too far, which nobody sees.
    """

    def __init__(
        self, forward: Forward, vocabulary: Vocabulary, *, vocab_size: int, blocks: int, limits: Limits, ahead: bool = False
    ) -> None:
        self._vocabulary = vocabulary
        self._vocab_size = vocab_size
        self._device = forward.device
        self._cache = forward.cache
        self._pool = BlockPool(blocks)
        self.at_once = limits.sequences
        self._scheduler = Scheduler(self._pool, self._cache.block_size, limits, self._cache.copy)
        self._forward = forward
        self._ahead = ahead
        self._launch: Launch | None = None
        self._orders = count()
        self._groups: dict[Ticket[Any], list[Group]] = {}

    def step(self) -> None:
        """Schedule, run, sample, emit: one token for every answer that is under way, and a piece of the prompts that wait.

        Ahead of Python, the device runs a step while the tokens of the one before are read and shown.
        """
        with self._all_or_none():
            self._drop_unwanted()
            if work := self._scheduler.schedule():
                self._cache.clear(self._scheduler.fresh)
                logits = self._forward.run(work, self._launch)
                before = self._read()
                self._launch = self._sample(work, logits)
                self._emit(before)
            if not (work and self._ahead and self._groups):
                self._emit(self._read())

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
        """See ``TextEngine``. Raises what ``ctx`` raises."""
        ctx.check()
        ticket = Ticket(self, config, ctx, on_piece, on_end)
        root = prefix.root(salt)
        groups = [self._group(ticket, prompt, i * config.n, root, new_matcher) for i, prompt in enumerate(prompts)]
        self._groups[ticket] = groups
        for group in groups:
            if config.echo and not group.leader.scoring:
                self._echo(ticket, group)
        for group in self._groups.get(ticket, ()):
            if not group.finished:
                self._scheduler.add(group.leader)
        self._close_if_finished(ticket)
        return ticket

    # ------------------------------------------------------------ taking a request

    def _group(self, ticket: Ticket[Any], prompt: Prompt, first: int, root: bytes, new_matcher: NewMatcher | None) -> Group:
        sequences = [self._sequence(ticket, prompt, first + i, new_matcher) for i in range(ticket.config.n)]
        leader, *followers = sequences
        for sequence in sequences:
            sequence.root = root
        if ticket.config.echo and ticket.config.logprobs is not None:
            leader.scores = [Scored(prompt.ids[0], None)]
        leader.follow(followers)
        return Group(prompt, sequences)

    def _sequence(self, ticket: Ticket[Any], prompt: Prompt, index: int, new_matcher: NewMatcher | None) -> Sequence:
        config = ticket.config
        offset = len(prompt.text) if config.echo else 0
        transcript = Transcript(index, config, self._vocabulary, limit=prompt.limit, offset=offset)
        choices = Choices(
            config,
            prompt.ids,
            vocab_size=self._vocab_size,
            index=index,
            device=self._device,
            matcher=new_matcher() if new_matcher is not None else None,
        )
        return Sequence(ticket, transcript, choices, prompt.ids, next(self._orders), prompt.embedded)

    # ------------------------------------------------------------ a step

    def _drop_unwanted(self) -> None:
        for ticket in list(self._groups):
            self._guard(ticket, ticket.ctx.check)

    def _sample(self, work: list[Chunk], logits: Logits) -> Launch | None:
        """Choose the next token of every sequence that has seen all of its tokens."""
        rows: list[int] = []
        ready: list[Sequence] = []
        for chunk in sorted(work, key=lambda one: logits.of[one.sequence.order].start):  # else rows would have to be copied
            sequence = chunk.sequence
            own = logits.of[sequence.order]
            together = [sequence, *sequence.followers]
            if sequence.scoring:
                self._score_prompt(chunk, logits.rows[own.start : own.stop])
            last = chunk.is_last
            self._scheduler.computed(chunk)
            if last and not (sequence.transcript.finished or sequence.choices.finished or sequence.choices.error):
                ready += together
                rows += [own[-1]] * len(together)
        self._close_scored(work)
        if not ready:
            return None
        whole = rows == list(range(len(logits.rows)))
        return Launch(ready, logits.rows if whole else logits.rows.index_select(0, place(rows, self._device)))

    def _read(self) -> list[Chosen]:
        """What the step before has chosen, if nobody has read it yet."""
        launch, self._launch = self._launch, None
        return launch.read() if launch is not None else []

    def _emit(self, chosen: list[Chosen]) -> None:
        """Let each sequence take its token, show what it says, and let go of those that ended."""
        for sequence, token, scored in chosen:
            ticket = sequence.ticket
            if token == BROKEN:
                self._pool.forget_names(sequence.names)  # nobody shall begin with what it has computed
            if ticket.ended or sequence.state is State.FINISHED:
                continue
            if token == BROKEN:
                self._drop(ticket, APIError("The model failed while processing the request."))
                continue
            if sequence.choices.error is not None:
                self._drop(ticket, sequence.choices.error)
                continue
            piece = sequence.accept(token, scored)
            if sequence.transcript.finished:
                self._scheduler.remove(sequence)
            self._show(ticket, piece)
            self._close_if_finished(ticket)

    # ------------------------------------------------------------ prompts that are repeated

    def _score_prompt(self, chunk: Chunk, rows: Tensor) -> None:
        """A row says how likely the token behind it was."""
        sequence = chunk.sequence
        scores = sequence.scores or []
        following = sequence.ids[chunk.start + 1 : min(chunk.stop, sequence.prompt_length - 1) + 1]
        found = score(rows[: len(following)], following, sequence.ticket.config.logprobs or 0) if following else []
        scores += found[max(0, len(scores) - 1 - chunk.start) :]

    def _close_scored(self, work: list[Chunk]) -> None:
        """Repeat the prompts whose last score is there now, before any answer begins."""
        for chunk in work:
            ticket = chunk.sequence.ticket
            if chunk.sequence.scores is None or chunk.sequence.scoring or ticket.ended:
                continue
            for group in self._groups[ticket]:
                if group.leader is chunk.sequence and group.echo is None:
                    self._echo(ticket, group)
                    if group.finished:
                        self._remove(group)
            self._close_if_finished(ticket)

    def _echo(self, ticket: Ticket[Any], group: Group) -> None:
        logprobs = []
        offset = 0
        for scored in group.leader.scores or ():
            logprobs.append(spell(scored, self._vocabulary, offset))
            offset = min(len(group.prompt.text), offset + len(self._vocabulary.token_text(scored.token)))
        group.echo = Piece(index=0, text=group.prompt.text, logprobs=tuple(logprobs))
        for sequence in group.sequences:
            self._show(ticket, Piece(index=sequence.transcript.index, text=group.echo.text, logprobs=group.echo.logprobs))

    # ------------------------------------------------------------ ends

    def _show(self, ticket: Ticket[Any], piece: Piece | None) -> None:
        self._guard(ticket, lambda: ticket.show(piece))

    def _close_if_finished(self, ticket: Ticket[Any]) -> None:
        groups = self._groups.get(ticket)
        if groups is not None and all(group.finished for group in groups):
            del self._groups[ticket]
            self._guard(ticket, lambda: ticket.finish(_generation(ticket, groups)))

    def _guard(self, ticket: Ticket[Any], call: Callable[[], None]) -> None:
        """What goes wrong for one request must not reach the others."""
        try:
            call()
        except Exception as error:
            self._drop(ticket, error)

    def _drop(self, ticket: Ticket[Any], error: BaseException) -> None:
        groups = self._groups.pop(ticket, [])
        if groups:
            ticket.ctx.spend(_spent(groups))
        for group in groups:
            self._remove(group)
        ticket.fail(error)

    def _remove(self, group: Group) -> None:
        for sequence in group.sequences:
            self._scheduler.remove(sequence)

    @contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """A step that breaks has left the cache in the middle of it: nobody's sequence can go on."""
        import torch

        try:
            with torch.inference_mode():
                yield
        except BaseException as error:
            self._launch = None
            for ticket in list(self._groups):
                self._drop(ticket, error)
            raise


def _spent(groups: list[Group]) -> Usage:
    """What a request that has no result took: of its prompts what the model has seen, and every token that it chose."""
    return Usage(
        prompt_tokens=sum(_seen(group.leader) for group in groups),
        completion_tokens=sum(len(one.transcript.tokens) for group in groups for one in group.sequences),
        cached_tokens=sum(group.leader.reused or 0 for group in groups),
    )


def _seen(leader: Sequence) -> int:
    """Of the prompt. Once it has chosen a token it has seen all of it, also where it was put back since."""
    return leader.prompt_length if leader.transcript.tokens else min(leader.computed, leader.prompt_length)


def _generation(ticket: Ticket[Any], groups: list[Group]) -> Generation:
    return Generation(
        answers=tuple(tuple(echoed(one.transcript, group.echo) for one in group.sequences) for group in groups),
        keep=ticket.config.keep,
        prompt_tokens=sum(len(group.prompt.ids) for group in groups),
        cached_tokens=sum(group.leader.reused or 0 for group in groups),
    )
