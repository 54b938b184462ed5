"""A chat's answer, whole or in chunks → a message of content blocks, or its events."""

from __future__ import annotations

import msgspec

from openai_compat.translate.anthropic.blocks import Blocks, Events, assembled
from openai_compat.translate.anthropic.calls import Calls
from openai_compat.translate.anthropic.request import Turn
from schemas.answers import ReadAnswer, ReadChoice, ReadMessage, ReadUsage
from schemas.anthropic_answers import (
    EVENTS,
    AnthropicMessage,
    Ending,
    MessageDelta,
    MessageOutputDetails,
    MessageStart,
    MessageStop,
    MessageUsage,
    Ping,
    StopReason,
    StreamEvent,
)

_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_TOKEN = 4  # characters, where nobody counts
_encode = msgspec.json.Encoder().encode
_HEADS = {kind: f"event: {kind.__struct_config__.tag}\ndata: ".encode() for kind in EVENTS}


class Answering:
    """One answer as it comes. Each piece is looked at once, whatever came before.

    Args:
        id: the message's.
        model: the name that the client used.
        prompt_tokens: about how many, for the first event: the chat tells at its end.
    """

    def __init__(self, turn: Turn, *, id: str, model: str, prompt_tokens: int) -> None:
        self._turn = turn
        self._id = id
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._blocks = Blocks(carries_thinking=turn.carries_thinking)
        self._calls = Calls(self._blocks, turn.names, f"toolu_{id.removeprefix('msg_')}_")
        self._said = 0
        self._refused = False
        self._finish = ""
        self._stop: str | None = None
        self._usage: ReadUsage | None = None

    def begin(self) -> Events:
        usage = MessageUsage(input_tokens=self._prompt_tokens, output_tokens=0)
        message = AnthropicMessage(id=self._id, model=self._model, content=[], usage=usage)
        return [MessageStart(message=message), Ping()]

    def add(self, chunk: ReadAnswer) -> Events:
        self._usage = chunk.usage or self._usage
        return [event for choice in chunk.choices or () if choice.index == 0 for event in self._choice(choice)]

    def finish(self) -> Events:
        return [
            *self._calls.finish(),
            *self._blocks.end(),
            MessageDelta(delta=self._ending(), usage=self._counted()),
            MessageStop(),
        ]

    def whole(self, answer: ReadAnswer) -> AnthropicMessage:
        """The message of a chat that was not streamed: what its events would have said."""
        content = assembled([*self.add(answer), *self.finish()])
        ending = self._ending()
        return AnthropicMessage(
            id=self._id,
            model=self._model,
            content=content,
            stop_reason=ending.stop_reason,
            stop_sequence=ending.stop_sequence,
            usage=self._counted(),
        )

    def _choice(self, choice: ReadChoice) -> Events:
        self._finish = choice.finish_reason or self._finish
        if isinstance(choice.stop_reason, str) and choice.stop_reason in self._turn.stops:
            self._stop = choice.stop_reason
        return [] if self._turn.is_mute else self._content(choice.said)

    def _content(self, said: ReadMessage) -> Events:
        events: Events = []
        if (thought := said.thought) and self._turn.shows_thinking:
            events += [*self._calls.finish(), *self._blocks.thinking(thought)]
        for text in (said.content, said.refusal):
            if text:
                self._said += len(text)
                events += [*self._calls.finish(), *self._blocks.text(text)]
        self._refused = self._refused or bool(said.refusal)
        if said.tool_calls:
            events += self._calls.feed(said.tool_calls)
        return events

    def _ending(self) -> Ending:
        if self._turn.is_mute:
            return Ending(stop_reason="max_tokens")
        if self._refused:
            return Ending(stop_reason="refusal")
        reason = _REASONS.get(self._finish, "end_turn")
        if reason == "max_tokens" and self._turn.is_cut:
            return Ending(stop_reason="model_context_window_exceeded")
        if reason == "end_turn" and self._stop is not None:
            return Ending(stop_reason="stop_sequence", stop_sequence=self._stop)
        if reason == "end_turn" and self._calls:
            return Ending(stop_reason="tool_use")
        return Ending(stop_reason=reason)

    def _counted(self) -> MessageUsage:
        usage = self._usage
        if usage is None or usage.prompt_tokens is None:
            return MessageUsage(input_tokens=self._prompt_tokens, output_tokens=-(-self._said // _TOKEN))
        return MessageUsage(
            input_tokens=max(0, usage.prompt_tokens - usage.cached),
            cache_read_input_tokens=usage.cached,
            output_tokens=usage.completion_tokens or 0,
            output_tokens_details=MessageOutputDetails(thinking_tokens=usage.thought),
        )


def frame(event: StreamEvent) -> bytes:
    """The event as it is sent: its name is its type."""
    return _HEADS[type(event)] + _encode(event) + b"\n\n"
