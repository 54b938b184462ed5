"""One answer as it comes: chunks of a chat → the events of a response. A whole answer is the same, fed once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import structs

from openai_compat.errors import APIError
from openai_compat.translate.responses.calls import Calls
from openai_compat.translate.responses.making import Ended, Making, Message, Numbering, Reasoning, logprobs_of
from openai_compat.translate.responses.snapshot import error_of, snapshot, tier_of, usage_of
from openai_compat.translate.responses.turn import SEALED, Turn, wants_logprobs
from schemas.answers import ReadAnswer, ReadChoice, ReadMessage, ReadUsage
from schemas.responses import CreateResponseRequest
from schemas.responses_answer import Event, IncompleteDetails, Response, Status

_encode = msgspec.json.Encoder().encode
_CUT: dict[str | None, Any] = {"length": "max_output_tokens", "content_filter": "content_filter"}


def frame(event: Event) -> bytes:
    """One event of SSE."""
    return b"event: " + event.type.encode() + b"\ndata: " + _encode(event) + b"\n\n"


class Answering:
    """A state machine that waits for nothing: ``begin``, then ``add`` for each chunk, then ``finish``, ``fail`` or ``cancel``.

    Args:
        created: Unix time in seconds.
        conversation: the id of the one that the answer belongs to.
        clock: Unix time in seconds, asked when the answer is complete.
    """

    def __init__(
        self,
        request: CreateResponseRequest,
        turn: Turn,
        *,
        id: str,
        created: int,
        conversation: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._now = snapshot(request, id=id, created=created, conversation=conversation)
        self._clock = clock
        self._event = Numbering()
        self._calls = Calls(turn.tools)
        self._logprobs = wants_logprobs(request)
        self._sealed = SEALED in (request.include or ())
        self._summed = self._now.reasoning["summary"] is not None
        self._made: list[Making] = []
        self._speaking: Message | Reasoning | None = None
        self._early: list[dict[str, Any]] = []
        self._reason: str | None = None
        self._usage: ReadUsage | None = None
        self._tier: str | None = None

    @property
    def response(self) -> Response:
        """As it is now, with what is whole and what is not yet."""
        output, over = [making.item() for making in self._made], self._now.status not in ("queued", "in_progress")
        usage = usage_of(self._usage) if over and self._usage is not None else None
        tier = self._now.service_tier if self._tier is None else tier_of(self._tier)
        return structs.replace(self._now, output=output, usage=usage, service_tier=tier)

    # ---------------------------------------------------------------- its states

    def begin(self) -> list[Event]:
        """One in the background is only queued; ``proceed`` then says that the model has begun."""
        created = self._state("response.created")
        if self._now.status == "queued":
            return [created, self._state("response.queued")]
        return [created, self._state("response.in_progress")]

    def proceed(self) -> list[Event]:
        """Nothing where it is in progress already. The first ``add`` does the same."""
        if self._now.status != "queued":
            return []
        return [self._state("response.in_progress", "in_progress")]

    def finish(self) -> list[Event]:
        """The model has said all, or was cut off."""
        reason = _CUT.get(self._reason)
        status: Ended = "incomplete" if reason else "completed"
        events = [*self.proceed(), *self._close(status)]
        if reason:
            self._now = structs.replace(self._now, incomplete_details=IncompleteDetails(reason=reason))
            return [*events, self._state("response.incomplete", status)]
        if not any(isinstance(making, Message) for making in self._made) and not self._calls.any:
            events += self._empty()
        self._now = structs.replace(self._now, completed_at=int(self._clock()))
        return [*events, self._state("response.completed", status)]

    def fail(self, error: APIError) -> list[Event]:
        """What came before it stays, as incomplete."""
        self._stop()
        self._now = structs.replace(self._now, error=error_of(error))
        return [self._state("response.failed", "failed")]

    def cancel(self) -> list[Event]:
        """There is no event for it: the stream ends."""
        self._stop()
        self._now = structs.replace(self._now, status="cancelled")
        return []

    def _state(self, type: str, status: Status | None = None) -> Event:
        if status is not None:
            self._now = structs.replace(self._now, status=status)
        return self._event(type, response=self.response)

    # ---------------------------------------------------------------- what the model says

    def add(self, chunk: ReadAnswer) -> list[Event]:
        events = self.proceed()
        if chunk.usage is not None:
            self._usage = chunk.usage
        if chunk.service_tier is not None:
            self._tier = chunk.service_tier
        for choice in chunk.choices or ():
            if choice.index == 0:
                events += self._hear(choice)
        return events

    def _hear(self, choice: ReadChoice) -> list[Event]:
        said, events = choice.said, list[Event]()
        if choice.finish_reason:
            self._reason = choice.finish_reason
        if thought := said.thought:
            events += self._think(thought)
        logprobs = self._tokens(choice, said) if self._logprobs else []
        if said.content or logprobs:
            events += self._say(said.content or "", logprobs)
        if said.refusal:
            message, opened = self._message()
            events += [*opened, *message.decline(said.refusal)]
        if said.tool_calls:
            events += self._call(said)
        return events

    def _think(self, thought: str) -> list[Event]:
        opened: list[Event] = []
        self._early.clear()
        if not isinstance(self._speaking, Reasoning):
            reasoning = Reasoning(len(self._made), self._event, summed=self._summed, sealed=self._sealed)
            opened = self._open(reasoning)
            self._speaking = reasoning
        return [*opened, self._speaking.add(thought)]

    def _say(self, text: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        """Tokens without text belong to the message that they come in, or to the text that they begin."""
        if not text and not isinstance(self._speaking, Message):
            self._early += [] if isinstance(self._speaking, Reasoning) else logprobs
            return []
        if self._early:
            logprobs = [*self._early, *logprobs]
            self._early.clear()
        message, opened = self._message()
        return [*opened, *message.write(text, logprobs)]

    def _message(self) -> tuple[Message, list[Event]]:
        """The one that is open, or a new one and the events of its beginning."""
        if isinstance(self._speaking, Message):
            return self._speaking, []
        message = Message(len(self._made), self._event)
        opened = self._open(message)
        self._speaking = message
        return message, opened

    def _call(self, said: ReadMessage) -> list[Event]:
        events: list[Event] = []
        for place, piece in enumerate(said.tool_calls or ()):
            found = self._calls.piece(piece, place, index=len(self._made), event=self._event)
            if found is None:
                continue
            call, arguments = found
            if call.index == len(self._made):
                events += self._open(call)
            events += call.add(arguments)
        return events

    def _tokens(self, choice: ReadChoice, said: ReadMessage) -> list[dict[str, Any]]:
        """Those of a whole answer begin with the tokens of its reasoning, which are no part of the message."""
        entries = (choice.logprobs and choice.logprobs.content) or []
        found = logprobs_of(entries)
        if choice.message is None or not said.thought:
            return found
        wanted, place = len(said.content or ""), len(found)
        while wanted > 0 and place > 0:
            place -= 1
            wanted -= len(found[place]["token"])
        return found[place:]

    # ---------------------------------------------------------------- opening and closing

    def _open(self, making: Making) -> list[Event]:
        """What was said before it ends; calls stay open, as some servers write several at a time."""
        closed: list[Event] = []
        if self._speaking is not None:
            if isinstance(self._speaking, Message):
                self._speaking.phase = "commentary"
            closed = self._speaking.end("completed")
            self._speaking = None
        opened = making.begin()
        self._made.append(making)
        return [*closed, *opened]

    def _close(self, status: Ended) -> list[Event]:
        if isinstance(self._speaking, Message) and status == "completed":
            self._speaking.phase = "commentary" if self._calls.any else "final_answer"
        self._speaking = None
        return [event for making in self._made if making.open for event in making.end(status)]

    def _empty(self) -> list[Event]:
        message = Message(len(self._made), self._event)
        message.phase = "final_answer"
        self._made.append(message)
        return [*message.begin(), *message.blank(), *message.end("completed")]

    def _stop(self) -> None:
        for making in self._made:
            if making.open:
                making.stop("incomplete")
        self._speaking = None
