"""The events of a finished response, made again from what is kept of it: each text comes as one piece.

The last event has the number that it had when it was made, so a client who goes on after an earlier one gets it in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import structs

from openai_compat.translate.responses import frame
from schemas.responses_answer import Event, Item, Response

Told = tuple[str, dict[str, Any]]
_LASTS = {name: f"response.{name}" for name in ("completed", "incomplete", "failed")}
_OUTPUT = 3
"""From this event on a client may have read a part of a text, which these events would give it again."""


def replayed(response: Response, last: int, after: int) -> Iterator[bytes]:
    """The events after the one numbered ``after``; only the last one where that may have been in the middle of a text."""
    queued = structs.replace(response, status="queued", output=[], usage=None, completed_at=None, error=None)
    begun = structs.replace(queued, status="in_progress")
    events: list[Told] = [
        ("response.created", {"response": queued}),
        ("response.queued", {"response": queued}),
        ("response.in_progress", {"response": begun}),
    ]
    for number, item in enumerate(response.output):
        events += [(kind, {"output_index": number, **fields}) for kind, fields in _of_item(item)]
    if after < _OUTPUT:
        made = (Event(type=kind, sequence_number=number, **fields) for number, (kind, fields) in enumerate(events))
        yield from (frame(event) for event in made if event.sequence_number > after)
    number = max(last or after + 1, len(events))  # 0 where a restart cut it off
    if number > after and response.status in _LASTS:  # a cancelled one's events just end
        yield frame(Event(type=_LASTS[response.status], sequence_number=number, response=response))


def _of_item(item: Item) -> Iterator[Told]:
    yield "response.output_item.added", {"item": _empty(item)}
    if (inner := _INNER.get(item["type"])) is not None:
        for kind, fields in inner(item):
            yield kind, {"item_id": item["id"], **fields}
    yield "response.output_item.done", {"item": item}


def _empty(item: Item) -> Item:
    cleared = {"content": [], "summary": [], "arguments": "", "input": ""}
    return {**item, **{name: value for name, value in cleared.items() if name in item}, "status": "in_progress"}


def _message(item: Item) -> Iterator[Told]:
    for number, part in enumerate(item["content"]):
        name = "refusal" if part["type"] == "refusal" else "text"
        kind, place = ("refusal" if name == "refusal" else "output_text"), {"content_index": number}
        more: dict[str, Any] = {} if name == "refusal" else {"logprobs": []}
        yield "response.content_part.added", {**place, "part": {**part, name: ""}}
        yield f"response.{kind}.delta", {**place, "delta": part[name], **more}
        yield f"response.{kind}.done", {**place, name: part[name], **more}
        yield "response.content_part.done", {**place, "part": part}


def _reasoning(item: Item) -> Iterator[Told]:
    for number, part in enumerate(item.get("summary") or ()):
        place = {"summary_index": number}
        yield "response.reasoning_summary_part.added", {**place, "part": {**part, "text": ""}}
        yield "response.reasoning_summary_text.delta", {**place, "delta": part["text"]}
        yield "response.reasoning_summary_text.done", {**place, "text": part["text"]}
        yield "response.reasoning_summary_part.done", {**place, "part": part}
    for number, part in enumerate(item.get("content") or ()):
        place = {"content_index": number}
        yield "response.content_part.added", {**place, "part": {**part, "text": ""}}
        yield "response.reasoning_text.delta", {**place, "delta": part["text"]}
        yield "response.reasoning_text.done", {**place, "text": part["text"]}
        yield "response.content_part.done", {**place, "part": part}


def _call(item: Item) -> Iterator[Told]:
    yield "response.function_call_arguments.delta", {"delta": item["arguments"]}
    yield "response.function_call_arguments.done", {"arguments": item["arguments"], "name": item["name"]}


def _custom_call(item: Item) -> Iterator[Told]:
    yield "response.custom_tool_call_input.delta", {"delta": item["input"]}
    yield "response.custom_tool_call_input.done", {"input": item["input"]}


_INNER: dict[str, Callable[[Item], Iterator[Told]]] = {
    "message": _message,
    "reasoning": _reasoning,
    "function_call": _call,
    "custom_tool_call": _custom_call,
}
