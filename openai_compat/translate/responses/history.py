"""Items → the messages of a chat.

- What the model made in one go (reasoning, words, calls) is one assistant's message, as it was when it came.
- The outputs of calls follow them at once, in the calls' order. Where a client has left in the middle of a turn, a call has
  none: it gets one that says so, because templates and other servers refuse calls that nobody answered.
- An output holds text alone in a chat; its pictures follow in a message of the user's.
- An output without its call, whose beginning was cut off, is told as a message of the user's.
- Items that only other servers can serve are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from openai_compat.translate.responses.thoughts import Unsealing
from openai_compat.translate.responses.tools import flat_name
from schemas.responses_answer import Item

ABORTED = "aborted"
_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
_BELOW = "The output is in the next message."


class Placed(Struct, frozen=True, kw_only=True):
    """A chat's message, and the number of the item that it was made of."""

    message: dict[str, Any]
    number: int


def messages_of(items: Sequence[Item]) -> list[Placed]:
    history = _History(items)
    for number, item in enumerate(items):
        history.add(number, item)
    history.close()
    return history.messages


class _Said:
    """What the model made in one go, as far as it was read; ``message`` is filled when all of it was."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.message = message
        self.thoughts: list[str] = []
        self.texts: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.places: list[int] = []

    def fill(self) -> None:
        if self.texts:
            self.message["content"] = "".join(self.texts)
        if thoughts := "".join(self.thoughts):
            self.message["reasoning_content"] = thoughts
        if self.calls:
            self.message["tool_calls"] = self.calls


class _History:
    """What was read so far; what the model said is open until something else follows it."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.messages: list[Placed] = []
        self._items = items
        self._outputs = _by_call(items)
        self._used: set[int] = set()
        self._unsealing = Unsealing()
        self._open: _Said | None = None
        self._thoughts: list[str] = []

    def add(self, number: int, item: Item) -> None:
        kind = item["type"]
        if kind == "reasoning":
            self._thoughts.append(_thought(item, self._unsealing))
        elif kind in ("function_call", "custom_tool_call"):
            said = self._said(number)
            said.calls.append(_call(item))
            said.places.append(number)
        elif kind == "message" and item["role"] == "assistant":
            goes_on = self._open is not None and (self._open.calls or self._thoughts)
            self._said(number, anew=not goes_on).texts.append(_text(item["content"]))
        elif kind == "message":
            self.close()
            self._put(number, {"role": item["role"], "content": _content(item["content"], item["role"])})
        elif kind in _OUTPUTS:
            self.close()
            if number not in self._used:
                self._put(number, {"role": "user", "content": _orphan(item)})

    def close(self) -> None:
        """What is open is whole, and its calls are answered; reasoning that led to nothing is left out."""
        said, self._open, self._thoughts = self._open, None, []
        if said is None:
            return
        said.fill()
        shown: list[Placed] = []
        for call, number in zip(said.calls, said.places, strict=True):
            answer = self._answer(call["id"], number)
            spot = number if answer is None else answer
            text, pictures = _split(ABORTED if answer is None else self._items[answer]["output"])
            self._put(spot, {"role": "tool", "tool_call_id": call["id"], "content": text})
            if pictures:
                shown.append(Placed(message={"role": "user", "content": [_part(part) for part in pictures]}, number=spot))
        self.messages += shown

    def _answer(self, call_id: str, number: int) -> int | None:
        """The first output of the call after it."""
        waiting = self._outputs.get(call_id)
        while waiting and waiting[0] < number:
            waiting.popleft()
        if not waiting:
            return None
        self._used.add(waiting[0])
        return waiting.popleft()

    def _said(self, number: int, *, anew: bool = False) -> _Said:
        """What is open, or something new, with what was thought before."""
        thoughts, self._thoughts = self._thoughts, []
        if anew or self._open is None:
            self.close()
            self._open = _Said({"role": "assistant", "content": None})
            self._put(number, self._open.message)
        self._open.thoughts += thoughts
        return self._open

    def _put(self, number: int, message: dict[str, Any]) -> None:
        self.messages.append(Placed(message=message, number=number))


def _call(item: Item) -> dict[str, Any]:
    arguments = item["arguments"] if item["type"] == "function_call" else _wrapped(item["input"])
    function = {"name": flat_name(item["name"], item.get("namespace")), "arguments": arguments}
    return {"id": item["call_id"], "type": "function", "function": function}


def _thought(item: Item, unsealing: Unsealing) -> str:
    """What the model thought: our own blob has it whole, then the text, then what was told of it."""
    if (text := unsealing.open(item.get("encrypted_content") or "")) is not None:
        return text
    return "".join(part["text"] for part in item.get("content") or ()) or "\n\n".join(part["text"] for part in item["summary"])


def _by_call(items: Sequence[Item]) -> dict[str, deque[int]]:
    found: dict[str, deque[int]] = {}
    for number, item in enumerate(items):
        if item["type"] in _OUTPUTS:
            found.setdefault(item["call_id"], deque()).append(number)
    return found


def _wrapped(text: str) -> str:
    return msgspec.json.encode({"input": text}).decode()


def _text(parts: Iterable[dict[str, Any]]) -> str:
    return "".join(part.get("text") or part.get("refusal") or "" for part in parts)


def _content(parts: list[dict[str, Any]], role: str) -> str | list[dict[str, Any]]:
    """Plain text where it is nothing else. Parts of instructions are paragraphs."""
    if all(part["type"] == "input_text" for part in parts) and (len(parts) == 1 or role != "user"):
        return "\n\n".join(part["text"] for part in parts)
    return [_part(part) for part in parts]


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    return {"type": "text", "text": part["text"]} if part["type"] == "input_text" else part


def _split(output: str | list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Its text, and the parts that are none."""
    if isinstance(output, str):
        return output, []
    others = [part for part in output if part["type"] != "input_text"]
    text = "\n".join(part["text"] for part in output if part["type"] == "input_text")
    return text or (_BELOW if others else ""), others


def _orphan(item: Item) -> str | list[dict[str, Any]]:
    text, others = _split(item["output"])
    told = f"Output of a tool ({item['call_id']}):\n{text}"
    return [{"type": "text", "text": told}, *map(_part, others)] if others else told
