"""Messages as chat templates want them, with plainer forms for templates that know less.

1. All system messages become one at the front, the mode's prompt first. Tool calls carry their arguments as an object (an
   empty one where the text is no JSON object). Content is text, or null for calls alone where a template shows them only then.
2. A template that leaves calls or results out gets them as text: ``<tool_call>{…}</tool_call>`` in the assistant's message,
   ``<tool_response>…</tool_response>`` in a user message. So does one that leaves out calls beside words, for those messages.
3. Tools that may be called are handed to a template that shows them. Otherwise the system text lists them, as Hermes does, and
   asks for calls in the form of rule 2; where a call is required, for its JSON alone.
4. A template that refuses gets the ids of calls in nine letters, as Mistral's want them, and then the plain form: the system
   text in front of the first user message, calls and results as text, and neighbours of the same role joined.
5. Without a template: ``System: …``, ``User: …``, ``Assistant: …`` paragraphs, ending in ``Assistant:``; the answer then ends
   where the model writes ``User:`` by itself.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from handlers.chat_template import ChatTemplate
from handlers.template_abilities import Abilities, Refusal
from handlers.template_terms import Arguments
from handlers.types import Message, Tool, ToolCall
from openai_compat.errors import InvalidRequest

Dialogue = list[dict[str, Any]]
Definitions = list[dict[str, Any]]
PLAIN_STOPS = ("\nUser:", "\nSystem:")
_BLANK_LINE = "\n\n"
_SHORT_ID = 9
_TOOLS_BEFORE = "You may call these functions to help with the user's request:"
_TOOLS_BEHIND = (
    "For each call, write a JSON object with the function's name and arguments between these marks:\n"
    '<tool_call>\n{"name": "<name>", "arguments": {<arguments>}}\n</tool_call>'
)
_TOOLS_BARE = (
    "To call one, answer with JSON alone, an object with the function's name and arguments:\n"
    '{"name": "<name>", "arguments": {<arguments>}}'
)
_TOOLS_FORCED = (
    "Call what the request needs. Answer with the JSON alone, an object with the function's name and arguments:\n"
    '{"name": "<name>", "arguments": {<arguments>}}'
)


def render(
    template: ChatTemplate | None,
    messages: tuple[Message, ...],
    system: str | None,
    options: dict[str, Any],
    tools: Definitions | None = None,
    *,
    forced: bool = False,
    bare: bool = False,
) -> str:
    """The prompt text. Raises ``InvalidRequest`` where the template refuses even the plain form.

    Args:
        tools: what may be called, as ``definitions`` writes it.
        forced: the answer has to be a call.
        bare: calls are JSON alone, without marks.
    """
    abilities = template.abilities if template else Abilities()
    listed = tools_text(tools, forced=forced, bare=bare) if tools and not abilities.tools else ""
    dialogue = _dialogue(messages, system, listed)
    if template is None:
        return _paragraphs(_without_tools(dialogue))
    dialogue = [_suited(entry, abilities) for entry in dialogue]
    for form in (dialogue, _with_short_ids(dialogue), _plain(dialogue)):
        try:
            return template.render(form, options, tools)
        except Refusal as error:
            refusal = error
    raise InvalidRequest("The model's chat template refuses this order of messages.", param="messages") from refusal


def definitions(tools: tuple[Tool, ...]) -> Definitions:
    """The tools as clients and templates write them."""
    return [{"type": "function", "function": _definition(tool)} for tool in tools]


def tools_text(tools: Definitions, *, forced: bool, bare: bool) -> str:
    """The tools in words, for a template that does not take them."""
    behind = _TOOLS_FORCED if forced else _TOOLS_BARE if bare else _TOOLS_BEHIND
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return f"{_TOOLS_BEFORE}\n<tools>\n{listed}\n</tools>\n{behind}"


def _definition(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}


def _dialogue(messages: tuple[Message, ...], system: str | None, listed: str) -> Dialogue:
    texts = [system or "", *(message.text for message in messages if message.role == "system"), listed]
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
        entry |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}  # both names are in use
    if message.tool_calls:
        entry["tool_calls"] = [_call(call) for call in message.tool_calls]
    return entry


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call.arguments)}}


def _arguments(text: str) -> Arguments:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Arguments()
    return Arguments(value if isinstance(value, dict) else {})


def _suited(entry: dict[str, Any], abilities: Abilities) -> dict[str, Any]:
    """A message in a form of which the template leaves nothing out."""
    calling = "tool_calls" in entry
    if not abilities.calls or (calling and entry["content"] and not abilities.calls_beside_words):
        return _as_text(entry)
    return {**entry, "content": abilities.wordless} if calling and not entry["content"] else entry


def _without_tools(dialogue: Dialogue) -> Dialogue:
    return [_as_text(entry) for entry in dialogue]


def _as_text(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{entry['content']}\n</tool_response>"}
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in entry.get("tool_calls", ())]
    content = "\n".join(filter(None, [entry["content"], *(f"<tool_call>{call}</tool_call>" for call in calls)]))
    kept = {name: value for name, value in entry.items() if name not in ("tool_calls", "tool_call_id")}
    return {**kept, "content": content}


def _with_short_ids(dialogue: Dialogue) -> Dialogue:
    return [_renamed(entry) for entry in dialogue]


def _renamed(entry: dict[str, Any]) -> dict[str, Any]:
    changed = dict(entry)
    if "tool_call_id" in entry:
        changed["tool_call_id"] = _short(entry["tool_call_id"])
    if "tool_calls" in entry:
        changed["tool_calls"] = [{**call, "id": _short(call["id"])} for call in entry["tool_calls"]]
    return changed


def _short(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()[:_SHORT_ID]


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
