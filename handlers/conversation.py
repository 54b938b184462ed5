"""Messages as chat templates want them, with plainer forms for templates that know less.

1. All system messages become one at the front, the mode's prompt first. Tool calls carry their arguments as an object (an
   empty one where the text is no JSON object). Content is text, never null.
2. A template that does not speak of tools gets calls and results as text: ``<tool_call>{…}</tool_call>`` in the assistant's
   message, ``<tool_response>…</tool_response>`` in a user message.
3. A template that still refuses gets the plain form: the system text in front of the first user message, and neighbours of the
   same role joined.
4. Without a template: ``System: …``, ``User: …``, ``Assistant: …`` paragraphs, ending in ``Assistant:``; the answer then ends
   where the model writes ``User:`` by itself.
"""

from __future__ import annotations

import json
from typing import Any

from handlers.chat_template import ChatTemplate, Refusal
from handlers.types import Message, ToolCall
from openai_compat.errors import InvalidRequest

Dialogue = list[dict[str, Any]]
PLAIN_STOPS = ("\nUser:", "\nSystem:")
_BLANK_LINE = "\n\n"


def render(template: ChatTemplate | None, messages: tuple[Message, ...], system: str | None, options: dict[str, Any]) -> str:
    """The prompt text. Raises ``InvalidRequest`` where the template refuses even the plain form."""
    dialogue = _dialogue(messages, system)
    if template is None:
        return _paragraphs(_without_tools(dialogue))
    if not template.knows_tools:
        dialogue = _without_tools(dialogue)
    try:
        return template.render(dialogue, options)
    except Refusal:
        return _render_plain(template, _plain(dialogue), options)


def _render_plain(template: ChatTemplate, dialogue: Dialogue, options: dict[str, Any]) -> str:
    try:
        return template.render(dialogue, options)
    except Refusal as error:
        raise InvalidRequest("The model's chat template refuses this order of messages.", param="messages") from error


def _dialogue(messages: tuple[Message, ...], system: str | None) -> Dialogue:
    texts = [system or "", *(message.text for message in messages if message.role == "system")]
    merged = _BLANK_LINE.join(filter(None, texts))
    head = [{"role": "system", "content": merged}] if merged else []
    return head + [_entry(message) for message in messages if message.role != "system"]


def _entry(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.name:
        entry["name"] = message.name
    if message.tool_call_id:
        entry["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        entry["reasoning_content"] = message.reasoning
    if message.tool_calls:
        entry["tool_calls"] = [_call(call) for call in message.tool_calls]
    return entry


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call.arguments)}}


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _without_tools(dialogue: Dialogue) -> Dialogue:
    return [_as_text(entry) for entry in dialogue]


def _as_text(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{entry['content']}\n</tool_response>"}
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in entry.get("tool_calls", ())]
    content = "\n".join(filter(None, [entry["content"], *(f"<tool_call>{call}</tool_call>" for call in calls)]))
    kept = {name: value for name, value in entry.items() if name not in ("tool_calls", "tool_call_id")}
    return {**kept, "content": content}


def _plain(dialogue: Dialogue) -> Dialogue:
    plain: Dialogue = []
    for entry in _without_tools(dialogue):
        role = "user" if entry["role"] == "system" else entry["role"]
        if plain and plain[-1]["role"] == role:
            plain[-1]["content"] += _BLANK_LINE + entry["content"]
        else:
            plain.append({"role": role, "content": entry["content"]})
    return plain


def _paragraphs(dialogue: Dialogue) -> str:
    said = [f"{entry['role'].capitalize()}: {entry['content']}" for entry in dialogue]
    return _BLANK_LINE.join([*said, "Assistant:"])
