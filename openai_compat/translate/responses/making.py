"""Items while they are made: the events of each, and what it is now. A piece costs the same however long the text is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

from openai_compat.translate.responses.reading import new_id
from openai_compat.translate.responses.thoughts import seal
from openai_compat.translate.responses.tools import Called
from openai_compat.translate.responses.unwrapping import Unwrapping
from schemas.responses_answer import Event, Item

Ended = Literal["completed", "incomplete"]


class Numbering:
    """Makes events, each with the next number from 0 on."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, type: str, **fields: Any) -> Event:
        number = self._next
        self._next = number + 1
        return Event(type=type, sequence_number=number, **fields)


class Making(ABC):
    """Args:
    index: the item's place in the output.
    """

    def __init__(self, prefix: str, index: int, event: Numbering) -> None:
        self.id = new_id(prefix)
        self.index = index
        self.status: Literal["in_progress", "completed", "incomplete"] = "in_progress"
        self._event = event
        self._whole: Item | None = None

    def item(self) -> Item:
        """As it is now; not to be changed."""
        return self._write() if self._whole is None else self._whole

    @property
    def open(self) -> bool:
        return self._whole is None

    def begin(self) -> list[Event]:
        return [self._event("response.output_item.added", output_index=self.index, item=self._write())]

    def end(self, status: Ended) -> list[Event]:
        events = self._last()
        self.stop(status)
        return [*events, self._event("response.output_item.done", output_index=self.index, item=self.item())]

    def stop(self, status: Ended) -> None:
        """The same, telling nobody."""
        self.status = status
        self._whole = self._write()

    @abstractmethod
    def _write(self) -> Item: ...

    @abstractmethod
    def _last(self) -> list[Event]: ...


class Reasoning(Making):
    """``summed``: the client asked for a summary, which is the whole text; else it is the item's content."""

    def __init__(self, index: int, event: Numbering, *, summed: bool, sealed: bool) -> None:
        super().__init__("rs", index, event)
        self._summed, self._sealed = summed, sealed
        self._pieces: list[str] = []
        place = {"summary_index": 0} if summed else {"content_index": 0}
        self._place: dict[str, Any] = {"item_id": self.id, "output_index": index, **place}
        self._name = "response.reasoning_summary_text" if summed else "response.reasoning_text"
        self._around = "response.reasoning_summary_part" if summed else "response.content_part"
        self._began = False

    def begin(self) -> list[Event]:
        events = super().begin()
        self._began = True
        return [*events, self._event(f"{self._around}.added", **self._place, part=self._part(""))]

    def add(self, delta: str) -> Event:
        self._pieces.append(delta)
        return self._event(f"{self._name}.delta", **self._place, delta=delta)

    def _last(self) -> list[Event]:
        text = "".join(self._pieces)
        return [
            self._event(f"{self._name}.done", **self._place, text=text),
            self._event(f"{self._around}.done", **self._place, part=self._part(text)),
        ]

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "summary_text" if self._summed else "reasoning_text", "text": text}

    def _write(self) -> Item:
        text = "".join(self._pieces)
        parts = [self._part(text)] if self._began else []
        item: Item = {"type": "reasoning", "id": self.id, "summary": parts if self._summed else [], "status": self.status}
        if not self._summed:
            item["content"] = parts
        if self._sealed:
            item["encrypted_content"] = None if self.status == "in_progress" else seal(text)
        return item


class _Part:
    """A part of a message: what was written, or that the model declined."""

    def __init__(self, index: int, kind: Literal["output_text", "refusal"]) -> None:
        self.index, self.kind = index, kind
        self.pieces: list[str] = []
        self.logprobs: list[dict[str, Any]] = []

    def write(self) -> dict[str, Any]:
        text = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(self.logprobs)}


class Message(Making):
    def __init__(self, index: int, event: Numbering) -> None:
        super().__init__("msg", index, event)
        self.phase: Literal["commentary", "final_answer"] | None = None
        self._parts: list[_Part] = []

    def write(self, delta: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        events = self._turn_to("output_text")
        part = self._parts[-1]
        part.pieces.append(delta)
        part.logprobs += logprobs
        piece = self._event(
            "response.output_text.delta",
            item_id=self.id,
            output_index=self.index,
            content_index=part.index,
            delta=delta,
            logprobs=logprobs,
        )
        return [*events, piece]

    def decline(self, delta: str) -> list[Event]:
        events = self._turn_to("refusal")
        self._parts[-1].pieces.append(delta)
        return [*events, self._event("response.refusal.delta", **self._place(), delta=delta)]

    def blank(self) -> list[Event]:
        """An empty text."""
        return self._turn_to("output_text")

    def _turn_to(self, kind: Literal["output_text", "refusal"]) -> list[Event]:
        """The last part is of this kind from here on."""
        if self._parts and self._parts[-1].kind == kind:
            return []
        events = self._last()
        self._parts.append(_Part(len(self._parts), kind))
        return [*events, self._event("response.content_part.added", **self._place(), part=self._parts[-1].write())]

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "content_index": self._parts[-1].index}

    def _last(self) -> list[Event]:
        if not self._parts:
            return []
        place, part = self._place(), self._parts[-1].write()
        if part["type"] == "refusal":
            done = self._event("response.refusal.done", **place, refusal=part["refusal"])
        else:
            done = self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        return [done, self._event("response.content_part.done", **place, part=part)]

    def _write(self) -> Item:
        parts = [part.write() for part in self._parts]
        item: Item = {"type": "message", "id": self.id, "role": "assistant", "status": self.status, "content": parts}
        if self.phase is not None:
            item["phase"] = self.phase
        return item


class Call(Making):
    """A call of a function, or of a custom tool, whose input is taken out of the function's arguments."""

    def __init__(self, index: int, event: Numbering, *, called: Called, call_id: str | None) -> None:
        super().__init__("ctc" if called.kind == "custom" else "fc", index, event)
        self._called = called
        self._call_id = call_id or new_id("call")
        self._pieces: list[str] = []
        self._unwrapping = Unwrapping() if called.kind == "custom" else None
        self._place: dict[str, Any] = {"item_id": self.id, "output_index": index}

    def add(self, arguments: str) -> list[Event]:
        return self._put(arguments if self._unwrapping is None else self._unwrapping.feed(arguments))

    def end(self, status: Ended) -> list[Event]:
        """Arguments that are missing are none, as clients read them as JSON."""
        if self._unwrapping is not None:
            rest = self._unwrapping.rest()
        else:
            rest = "{}" if status == "completed" and not "".join(self._pieces).strip() else ""
        return [*self._put(rest), *super().end(status)]

    def _put(self, delta: str) -> list[Event]:
        if not delta:
            return []
        self._pieces.append(delta)
        kind = "response.function_call_arguments.delta"
        if self._unwrapping is not None:
            kind = "response.custom_tool_call_input.delta"
        return [self._event(kind, **self._place, delta=delta)]

    def _last(self) -> list[Event]:
        text = "".join(self._pieces)
        if self._unwrapping is not None:
            return [self._event("response.custom_tool_call_input.done", **self._place, input=text)]
        name = self._called.name
        return [self._event("response.function_call_arguments.done", **self._place, name=name, arguments=text)]

    def _write(self) -> Item:
        custom, text = self._unwrapping is not None, "".join(self._pieces)
        item: Item = {
            "type": "custom_tool_call" if custom else "function_call",
            "id": self.id,
            "call_id": self._call_id,
            "name": self._called.name,
            "input" if custom else "arguments": text,
            "status": self.status,
        }
        if self._called.namespace is not None:
            item["namespace"] = self._called.namespace
        return item


def logprobs_of(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of tokens, from any server; what is no token's is left out."""
    return [{**found, "top_logprobs": _tops(entry)} for entry in entries if (found := _token(entry)) is not None]


def _tops(entry: dict[str, Any]) -> list[dict[str, Any]]:
    tops = entry.get("top_logprobs")
    return [found for top in tops if (found := _token(top)) is not None] if isinstance(tops, list) else []


def _token(entry: Any) -> dict[str, Any] | None:
    token = entry.get("token") if isinstance(entry, dict) else None
    logprob = entry.get("logprob") if isinstance(entry, dict) else None
    if not isinstance(token, str) or not isinstance(logprob, int | float):
        return None
    raw = entry.get("bytes")
    known = isinstance(raw, list) and all(isinstance(byte, int) for byte in raw)
    return {"token": token, "logprob": logprob, "bytes": raw if known else list(token.encode())}
