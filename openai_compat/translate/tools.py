"""The tools of a chat and which of them may, must or must not be called."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from handlers.types import Tool, ToolChoice
from openai_compat.errors import InvalidRequest
from openai_compat.translate.schema_bounds import check_bounds
from openai_compat.translate.schema_keywords import check_keywords
from schemas.chat import AllowedTools, ChatCompletionRequest, FunctionDefinition, NamedToolChoice
from schemas.chat import Tool as WireTool

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def tools_of(body: ChatCompletionRequest) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """The tools that the model is shown, and the choice where one was made. Raises ``InvalidRequest`` naming the field."""
    tools = tuple(_tool(tool, f"tools[{number}]") for number, tool in enumerate(body.tools or ()))
    _check_unique(tools)
    choice = body.tool_choice
    if isinstance(choice, NamedToolChoice):
        return _named(tools, choice)
    if choice == "required" and not tools:
        raise InvalidRequest("'tool_choice' needs 'tools'.", param="tool_choice")
    return tools, None if choice is None or not tools else ToolChoice(mode=choice)


def parallel_of(body: ChatCompletionRequest, choice: ToolChoice | None) -> bool:
    """Several calls are allowed unless the client says otherwise; where a call is forced, only if it says so, because a list
    that a grammar opens is one that small models do not close.
    """
    if body.parallel_tool_calls is not None:
        return body.parallel_tool_calls
    return choice is None or choice.mode in ("none", "auto")


def _tool(tool: WireTool, where: str) -> Tool:
    if tool.function is None:
        raise _missing(f"{where}.function")
    function = tool.function
    if not _NAME.fullmatch(function.name):
        raise InvalidRequest(
            f"Invalid value for '{where}.function.name': letters, digits, '_', '-' and '.' are allowed, 64 at most.",
            param=f"{where}.function.name",
            code="invalid_value",
        )
    return Tool(
        name=function.name,
        description=function.description or "",
        parameters=_parameters(function, f"{where}.function.parameters"),
        strict=bool(function.strict),
    )


def _parameters(function: FunctionDefinition, where: str) -> str:
    schema = function.parameters or _NO_PARAMETERS
    if schema.get("type", "object") != "object":
        raise InvalidRequest(f"Invalid value for '{where}': a schema of the type 'object' is expected.", param=where)
    check_bounds(schema, where)
    if function.strict:
        check_keywords(schema, where)
    return msgspec.json.encode(schema).decode()


def _check_unique(tools: tuple[Tool, ...]) -> None:
    names = [tool.name for tool in tools]
    for number, name in enumerate(names):
        if name in names[:number]:
            param = f"tools[{number}].function.name"
            raise InvalidRequest(f"Invalid value for '{param}': there are two tools named '{name}'.", param=param)


def _named(tools: tuple[Tool, ...], choice: NamedToolChoice) -> tuple[tuple[Tool, ...], ToolChoice]:
    if choice.type == "allowed_tools":
        if choice.allowed_tools is None:
            raise _missing("tool_choice.allowed_tools")
        return _allowed(tools, choice.allowed_tools), ToolChoice(mode=choice.allowed_tools.mode)
    if choice.function is None:
        raise _missing("tool_choice.function")
    return tools, ToolChoice(mode="named", name=_known(tools, choice.function.name))


def _allowed(tools: tuple[Tool, ...], allowed: AllowedTools) -> tuple[Tool, ...]:
    """The others are not shown at all. An entry is written as a tool is, or with its name beside the type."""
    names = {_known(tools, _name_of(entry, number)) for number, entry in enumerate(allowed.tools)}
    if not names:
        raise InvalidRequest("'tool_choice.allowed_tools.tools' is empty.", param="tool_choice.allowed_tools.tools")
    return tuple(tool for tool in tools if tool.name in names)


def _name_of(entry: dict[str, Any], number: int) -> str:
    function = entry.get("function", entry)
    name = function.get("name") if isinstance(function, dict) and entry.get("type", "function") == "function" else None
    if not isinstance(name, str):
        param = f"tool_choice.allowed_tools.tools[{number}]"
        raise InvalidRequest(f"Invalid value for '{param}': the name of a function is expected.", param=param)
    return name


def _known(tools: tuple[Tool, ...], name: str) -> str:
    if name not in {tool.name for tool in tools}:
        raise InvalidRequest("'tool_choice' names a tool that is not in 'tools'.", param="tool_choice")
    return name


def _missing(param: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
