"""What of the published schema an exchange has to keep to, and where it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kit import anthropic_types
from kit.recorder import Exchange
from kit.schema import violations
from kit.wire import Message

WHOLE = {
    "/chat/completions": "CreateChatCompletionResponse",
    "/completions": "CreateCompletionResponse",
    "/embeddings": "CreateEmbeddingResponse",
    "/moderations": "CreateModerationResponse",
    "/models": "ListModelsResponse",
    "/images/generations": "ImagesResponse",
    "/images/edits": "ImagesResponse",
    "/responses": "Response",
    "/responses/input_tokens": "TokenCountsResource",
}
EVENTS = {
    "/chat/completions": "CreateChatCompletionStreamResponse",
    "/completions": "CompletionChunk",
    "/responses": "ResponseStreamEvent",
    "/audio/speech": "CreateSpeechResponseStreamEvent",
    "/audio/transcriptions": "CreateTranscriptionResponseStreamEvent",
    "/images/generations": "ImageGenStreamEvent",
    "/images/edits": "ImageEditStreamEvent",
}
DONE = "[DONE]"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``kind`` is a row of the table: "chat", "chat events", "errors"."""

    kind: str
    wrong: tuple[str, ...]


def verdict(exchange: Exchange, prefix: str) -> Verdict | None:
    """None where the exchange has no published schema: raw sound, plain text, a route of the server's own."""
    answer, asked = exchange.answer, exchange.request
    if answer is None or not asked.path.startswith(prefix) or asked.method not in {"GET", "POST", "DELETE"}:
        return None
    path = asked.path.removeprefix(prefix)
    if path.startswith("/messages"):
        return _messages(path, answer)
    if answer.status >= 400:
        known = path in WHOLE or path in EVENTS or path.startswith(("/responses/", "/models/", "/audio/"))
        return Verdict(kind="errors", wrong=(*_read(answer, "ErrorResponse"),)) if known else None
    if answer.content_type == "text/event-stream":
        name = EVENTS.get(path) or ("ResponseStreamEvent" if path.startswith("/responses/") else None)
        return name and Verdict(kind=f"{path[1:]} events", wrong=tuple(sorted(set(_events(answer, name)))))
    name = _whole(asked, path, answer)
    return name and Verdict(kind=_kind(path), wrong=(*_read(answer, name),))


def _kind(path: str) -> str:
    """`/models/x/y` is a kind as `/models/z` is."""
    first, *rest = path[1:].split("/")
    if first == "responses" and rest and rest[-1] not in {"input_items", "input_tokens", "cancel"}:
        return "responses/{id}"
    if first == "responses" and len(rest) > 1:
        return f"responses/{{id}}/{rest[-1]}"
    return "models/{id}" if first == "models" and rest else path[1:]


def _whole(asked: Message, path: str, answer: Message) -> str | None:
    if path in WHOLE:
        return WHOLE[path]
    if path.startswith("/models/"):
        return "Model" if asked.method == "GET" else None
    if path.startswith("/responses/") and asked.method != "DELETE":
        return "ResponseItemList" if path.endswith("/input_items") else "Response"
    if path.startswith("/audio/") and answer.content_type == "application/json":
        verbose = "Verbose" if b'"segments"' in answer.body else ""
        kind = {"/audio/transcriptions": "Transcription", "/audio/translations": "Translation"}.get(path)
        return kind and f"Create{kind}Response{verbose}Json"
    return None


def _read(answer: Message, name: str) -> list[str]:
    try:
        return violations(name, json.loads(answer.text()))
    except ValueError:
        return [f"{name}: no JSON: {answer.text()[:60]!r}"]


def _events(answer: Message, name: str) -> Iterator[str]:
    for event, data in frames(answer):
        if data == DONE:
            continue
        try:
            value = json.loads(data)
        except ValueError:
            yield f"{name}: no JSON: {data[:60]!r}"
            continue
        if isinstance(value, dict) and "error" in value and name != "ResponseStreamEvent":
            yield from violations("ErrorResponse", value)
            continue
        yield from violations(name, value)
        if name == "ResponseStreamEvent" and event != value.get("type"):
            yield f"{name}: `event: {event}` with the type {value.get('type')}"


def frames(answer: Message) -> Iterator[tuple[str, str]]:
    """The name and the data of each event; one that is cut off, where the client left, is none."""
    text = answer.text().replace("\r\n", "\n")
    *whole, rest = text.split("\n\n")
    for block in [*whole, *([rest] if answer.whole and rest.strip() else [])]:
        lines = [line.partition(":")[::2] for line in block.split("\n")]
        event = "".join(value.strip() for field, value in lines if field == "event")
        data = "\n".join(value.removeprefix(" ") for field, value in lines if field == "data")
        if data:
            yield event, data


def _messages(path: str, answer: Message) -> Verdict | None:
    read = anthropic_types.reader()
    if read is None:
        return None
    if answer.status >= 400:
        return Verdict(kind="messages errors", wrong=(*read("error", answer.text()),))
    if answer.content_type == "text/event-stream":
        wrong = {line for event, data in frames(answer) for line in read("event", data) or _named(event, data)}
        return Verdict(kind="messages events", wrong=tuple(sorted(wrong)))
    kind = "count" if path.endswith("/count_tokens") else "message"
    return Verdict(kind=path[1:], wrong=(*read(kind, answer.text()),))


def _named(event: str, data: str) -> list[str]:
    named: Any = json.loads(data).get("type")
    return [] if named == event else [f"`event: {event}` with the type {named}"]
