"""For models that may not be packed: transformers' own ``generate()``, each request by itself.

Our chooser stands in its loop, takes a step's logits and says the next tokens. Between tokens one loop gives way to the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from handlers import types as t
from handlers.decoding.logprobs import Scored, score, spell
from handlers.decoding.params import TextConfig
from handlers.decoding.prefill import CHUNK, can_prefill, prefill, same_in_pieces, score_prompt
from handlers.decoding.sampler import BROKEN, Choices, choose
from handlers.decoding.ticket import Generation, NewMatcher, OnEnd, OnPiece, Prompt, ResultT, Ticket, echoed
from handlers.decoding.transcript import Answer, Piece, Transcript
from handlers.decoding.turns import Turns
from handlers.decoding.vocabulary import Vocabulary
from openai_compat.errors import APIError

if TYPE_CHECKING:
    from torch import Tensor

_POSITIONS = "rope_deltas"  # what Qwen2-VL and its like keep of a request in the model itself
MOST = 4  # requests under way at once: each holds a cache of its own, and answers no faster for company


class _Task(Struct, frozen=True):
    """``begun`` are the prompts that were run, with the answers to them as far as those are."""

    ticket: Ticket[Any]
    prompts: tuple[Prompt, ...]
    new_matcher: NewMatcher | None
    begun: list[tuple[Prompt, list[Transcript]]] = field(default_factory=list)

    def spent(self) -> t.Usage:
        return t.Usage(
            prompt_tokens=sum(len(prompt.ids) for prompt, _ in self.begun),
            completion_tokens=sum(len(one.tokens) for _, transcripts in self.begun for one in transcripts),
        )


class GeneratePath:
    """Answers each prompt by itself, all of its choices in one batch. A step is a token of each request under way.

    Choices of a prompt with pictures or sounds run one after another: models differ in how those would stand in a batch.
    """

    at_once = MOST

    def __init__(self, model: Any, vocabulary: Vocabulary, *, vocab_size: int) -> None:
        self._model = model
        self._remembering = [module for module in model.modules() if hasattr(module, _POSITIONS)]
        self._in_pieces = can_prefill(model) and same_in_pieces(model)
        self._vocabulary = vocabulary
        self._vocab_size = vocab_size
        self._waiting: deque[_Task] = deque()
        self._running: list[Turns] = []

    def submit(
        self,
        prompts: tuple[Prompt, ...],
        config: TextConfig,
        ctx: t.RunContext,
        *,
        on_piece: OnPiece,
        on_end: OnEnd[ResultT],
        salt: str = "",
        new_matcher: NewMatcher | None = None,
    ) -> Ticket[ResultT]:
        """See ``TextEngine``."""
        ctx.check()
        ticket = Ticket(self, config, ctx, on_piece, on_end)
        self._waiting.append(_Task(ticket, prompts, new_matcher))
        return ticket

    def step(self) -> None:
        while self._waiting and len(self._running) < MOST:
            self._running.append(Turns(partial(self._serve, self._waiting.popleft())))
        for turns in self._running:
            turns.resume()
        self._running = [turns for turns in self._running if not turns.ended]
        self._waiting = deque(filter(self._is_wanted, self._waiting))

    def _is_wanted(self, task: _Task) -> bool:
        try:
            task.ticket.ctx.check()
        except Exception as error:  # for whoever polls
            task.ticket.fail(error)
        return not task.ticket.ended

    def _serve(self, task: _Task, give_way: Callable[[], None]) -> None:
        task.ticket.ctx = _Polite(task.ticket.ctx, partial(self._give_way, give_way))
        for module in self._remembering:
            setattr(module, _POSITIONS, None)
        try:
            task.ticket.finish(self._run(task))
        except Exception as error:  # for whoever polls: the next request is none the worse for it
            task.ticket.ctx.spend(task.spent())
            task.ticket.fail(error)

    def _give_way(self, give_way: Callable[[], None]) -> None:
        """What a model remembers of one request must not meet another's: it is taken away, and put back afterwards."""
        kept = [getattr(module, _POSITIONS) for module in self._remembering]
        give_way()
        for module, value in zip(self._remembering, kept, strict=True):
            setattr(module, _POSITIONS, value)

    def _run(self, task: _Task) -> Generation:
        config = task.ticket.config
        answers = tuple(self._answer(prompt, i * config.n, task) for i, prompt in enumerate(task.prompts))
        return Generation(answers=answers, keep=config.keep, prompt_tokens=sum(len(prompt.ids) for prompt in task.prompts))

    def _answer(self, prompt: Prompt, first: int, task: _Task) -> tuple[Answer, ...]:
        """``config.n`` answers, numbered from ``first``. Raises what the ticket's ``ctx`` raises, within one token."""
        import torch

        ticket = task.ticket
        ticket.ctx.check()
        with torch.inference_mode():
            ids = torch.tensor([prompt.ids], dtype=torch.long, device=self._model.device)
            echo = self._echo(prompt, ids, ticket.config, ticket.ctx)
            transcripts = [self._transcript(first + i, prompt, ticket.config) for i in range(ticket.config.n)]
            task.begun.append((prompt, transcripts))
            for transcript in transcripts:
                if echo is not None:
                    ticket.show(Piece(index=transcript.index, text=echo.text, logprobs=echo.logprobs))
            batches = [[one] for one in transcripts] if prompt.inputs else [transcripts]
            for batch in batches:
                if not all(transcript.finished for transcript in batch):
                    self._generate(ids, batch, prompt, task)
        return tuple(echoed(transcript, echo) for transcript in transcripts)

    def _transcript(self, index: int, prompt: Prompt, config: TextConfig) -> Transcript:
        offset = len(prompt.text) if config.echo else 0
        return Transcript(index, config, self._vocabulary, limit=prompt.limit, offset=offset)

    def _generate(self, ids: Tensor, transcripts: list[Transcript], prompt: Prompt, task: _Task) -> None:
        from transformers import GenerationConfig, GenerationMixin

        past = prompt.inputs or self._shared_past(ids, len(transcripts), task.ticket.ctx)
        batch = ids.expand(len(transcripts), -1)
        chooser = _Chooser(transcripts, [self._choices(one.index, prompt, task) for one in transcripts], task.ticket)
        GenerationMixin.generate(
            self._model,
            batch,
            attention_mask=batch.new_ones(batch.shape),
            generation_config=GenerationConfig(max_new_tokens=prompt.limit, do_sample=False, pad_token_id=0),
            logits_processor=[chooser],
            stopping_criteria=[chooser.stopped],
            **past,
        )

    def _choices(self, index: int, prompt: Prompt, task: _Task) -> Choices:
        return Choices(
            task.ticket.config,
            prompt.ids,
            vocab_size=self._vocab_size,
            index=index,
            device=self._model.device,
            matcher=task.new_matcher() if task.new_matcher is not None else None,
        )

    def _shared_past(self, ids: Tensor, copies: int, ctx: t.RunContext) -> dict[str, Any]:
        """The prompt's cache where running it beforehand is worth it; else ``generate()`` runs the prompt itself."""
        length = ids.shape[1]
        if length < 2 or (copies == 1 and length <= CHUNK) or not self._in_pieces:
            return {}
        cache = prefill(self._model, ids, ctx)
        if copies > 1:
            cache.batch_repeat_interleave(copies)
        return {"past_key_values": cache}

    def _echo(self, prompt: Prompt, ids: Tensor, config: TextConfig, ctx: t.RunContext) -> Piece | None:
        if not config.echo:
            return None
        logprobs: list[t.TokenLogprob] = []
        if config.logprobs is not None:
            offset = 0
            for scored in score_prompt(self._model, ids, config.logprobs, ctx):
                logprobs.append(spell(scored, self._vocabulary, offset))
                offset = min(len(prompt.text), offset + len(self._vocabulary.token_text(scored.token)))
        return Piece(index=0, text=prompt.text, logprobs=tuple(logprobs))


class _Polite:
    """A request's context that lets the others go on wherever the request is asked whether it is still wanted."""

    def __init__(self, ctx: t.RunContext, give_way: Callable[[], None]) -> None:
        self._ctx = ctx
        self._give_way = give_way

    def emit(self, delta: t.Delta) -> None:
        self._ctx.emit(delta)

    def check(self) -> None:
        self._give_way()
        self._ctx.check()

    def spend(self, usage: t.Usage) -> None:
        self._ctx.spend(usage)


class _Chooser:
    """A logits processor that decides: it leaves nothing but the chosen tokens for ``generate()`` to pick."""

    def __init__(self, transcripts: list[Transcript], choices: list[Choices], ticket: Ticket[Any]) -> None:
        self._pairs = list(zip(transcripts, choices, strict=True))
        config = ticket.config
        self._alternatives = config.logprobs if config.logprobs is not None else (0 if config.ranks else None)
        self._ticket = ticket

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        import torch

        self._ticket.ctx.check()
        rows = [row for row, (transcript, _) in enumerate(self._pairs) if not transcript.finished]
        tokens = choose(scores[rows].float(), [self._pairs[row][1] for row in rows])
        if BROKEN in tokens:
            raise APIError("The model failed while processing the request.")
        scored: list[Scored | None] = [None] * len(rows)
        if self._alternatives is not None:
            scored = list(score(scores[rows].float(), tokens, self._alternatives))
        forced = torch.full_like(scores, float("-inf"))
        forced[:, 0] = 0.0
        for row, token, known in zip(rows, tokens, scored, strict=True):
            forced[row, 0] = float("-inf")
            forced[row, token] = 0.0
            transcript, choices = self._pairs[row]
            if choices.error is not None:
                raise choices.error
            self._ticket.show(transcript.accept(token, known, last=choices.finished))
        return forced

    def stopped(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:
        import torch

        return torch.tensor([transcript.finished for transcript, _ in self._pairs], device=input_ids.device)
