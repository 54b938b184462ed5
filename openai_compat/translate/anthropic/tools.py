"""Tools and which of them may, must or must not be called → those of a chat. Tools of Anthropic's servers are left out."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.translate.anthropic.client_tools import definition_of
from openai_compat.translate.anthropic.names import shortened
from schemas.anthropic import AnthropicTool, AnthropicToolChoice

_OWN = (None, "custom")
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Tools(Struct, frozen=True, kw_only=True):
    """``fields`` are a chat's; ``names`` tells what shortened names stand for; ``origins`` where the client wrote each tool."""

    fields: dict[str, Any]
    names: dict[str, str]
    origins: list[tuple[str, str]]


def tools_of(tools: list[AnthropicTool] | None, choice: AnthropicToolChoice | None) -> Tools:
    """Raises ``InvalidRequest`` naming the field."""
    functions: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    origins: list[tuple[str, str]] = []
    for number, tool in enumerate(tools or ()):
        where = f"tools[{number}]"
        function = _function(tool, where)
        if function is None:
            continue
        if tool.name and function["name"] != tool.name:
            names[function["name"]] = tool.name
        origins += _origins(f"tools[{len(functions)}]", where)
        functions.append(function)
    wire = [{"type": "function", "function": function} for function in functions]
    fields = {"tools": wire} if wire else {}
    return Tools(fields=fields | _choice(functions, choice), names=names, origins=origins)


def _origins(chat: str, where: str) -> list[tuple[str, str]]:
    return [
        (f"{chat}.function.parameters", f"{where}.input_schema"),
        (f"{chat}.function", where),
        (chat, where),
    ]


def _function(tool: AnthropicTool, where: str) -> dict[str, Any] | None:
    """None for a tool that is not the client's."""
    if tool.type in _OWN or tool.input_schema is not None:
        name, schema = _given(tool.name, f"{where}.name"), _given(tool.input_schema, f"{where}.input_schema")
        strict = {"strict": True} if tool.strict else {}
        return {"name": shortened(name), "description": tool.description or "", "parameters": schema, **strict}
    defined = definition_of(tool.type or "")
    if defined is None:
        return None
    description, schema = defined
    return {"name": shortened(_given(tool.name, f"{where}.name")), "description": description, "parameters": schema}


def _choice(functions: list[dict[str, Any]], choice: AnthropicToolChoice | None) -> dict[str, Any]:
    if choice is None:
        return {}
    names = {function["name"] for function in functions}
    if choice.type == "tool":
        name = shortened(_given(choice.name, "tool_choice.name"))
        if name not in names:
            reason = "it names no tool of 'tools' that the client runs."
            raise InvalidRequest(f"Invalid value for 'tool_choice.name': {reason}", param="tool_choice.name")
        chosen: Any = {"type": "function", "function": {"name": name}}
    elif choice.type == "any" and not names:
        raise InvalidRequest("'tool_choice' needs 'tools' that the client runs.", param="tool_choice")
    else:
        chosen = _CHOICES[choice.type]
    one = {"parallel_tool_calls": False} if choice.disable_parallel_tool_use else {}
    return {"tool_choice": chosen, **one} if names else {}


def _given(value: Any, param: str) -> Any:
    if value is None:
        raise InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    return value
