"""Tools as a response has them → functions of a chat, and the names of what was called back.

- A custom tool, whose input is plain text, is a function with one text named ``input``.
- The tools of a namespace are functions whose names begin with the namespace's.
- Tools that only other servers have (web search, files, pictures, MCP, shells …) are left out: a client that offers them gets
  an answer without them, as from other servers of this kind. A choice of one of them leaves the choice to the model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.translate.responses.reading import a_list, a_name, a_text, an_object, check_shape, wrong_value
from openai_compat.translate.schema_keywords import MAX_PATTERN_BYTES
from schemas.responses import MAX_TOOLS
from schemas.responses_answer import Item

MOST = 128
"""Functions of a chat."""
_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_STRANGE = re.compile(r"[^a-zA-Z0-9_.-]")
_LONGEST, _HASHED = 64, 10


class Called(Struct, frozen=True, kw_only=True):
    """What a function of the chat is to the client."""

    name: str
    namespace: str | None = None
    kind: Literal["function", "custom"] = "function"


class Toolbox(Struct, frozen=True, kw_only=True):
    """The functions that a chat offers. ``places`` are where the client wrote them; ``skipped``: some were left out."""

    functions: tuple[dict[str, Any], ...] = ()
    called: dict[str, Called] = {}
    places: tuple[str, ...] = ()
    skipped: bool = False

    def what_is(self, name: str) -> Called:
        """A name that was never offered is that of a function."""
        return self.called.get(name) or Called(name=name)


def flat_name(name: str, namespace: str | None) -> str:
    """The same for the same two always, so that calls of earlier answers keep their names."""
    if not namespace:
        return name
    whole = _STRANGE.sub("_", namespace + ("" if namespace.endswith(("_", ".")) else "__") + name)
    if len(whole) <= _LONGEST:
        return whole
    digest = hashlib.sha256(f"{namespace}\n{name}".encode()).hexdigest()[:_HASHED]
    return f"{whole[: _LONGEST - _HASHED - 1]}_{digest}"


def toolbox_of(tools: Sequence[dict[str, Any]] | None, items: Sequence[Item] = (), *, earlier: int = 0) -> Toolbox:
    """Of a request, and of the items that bring tools along; a later one takes the place of an earlier one of its name.

    ``earlier``: so many of the items are not of this request. Raises ``InvalidRequest`` naming the field.
    """
    found: dict[str, tuple[Called, dict[str, Any], str]] = {}
    skipped = False
    for given, where in _lists(tools, items, earlier):
        names: set[str] = set()
        for entry in _entries(given, where):
            if entry is None:
                skipped = True
                continue
            called, function, place = entry
            if function["name"] in names:
                raise wrong_value(f"there are two tools named '{called.name}'.", f"{place}.name")
            names.add(function["name"])
            found[function["name"]] = entry
    if len(found) > MOST:
        raise wrong_value(f"at most {MOST} functions are allowed.", "tools")
    return Toolbox(
        functions=tuple({"type": "function", "function": function} for _, function, _ in found.values()),
        called={name: called for name, (called, _, _) in found.items()},
        places=tuple(place for _, _, place in found.values()),
        skipped=skipped,
    )


def check_tools(given: Any, where: str) -> None:
    """Raises ``InvalidRequest`` naming what is wrong with a list of tools."""
    if given is not None:
        list(_entries(a_list(given, where, MAX_TOOLS), where))


def _lists(tools: Sequence[dict[str, Any]] | None, items: Sequence[Item], earlier: int) -> Iterator[tuple[list[Any], str]]:
    for number, item in enumerate(items):
        if item["type"] == "additional_tools":
            yield item.get("tools") or [], f"input[{number - earlier}].tools" if number >= earlier else "input"
    yield list(tools or ()), "tools"


_Entry = tuple[Called, dict[str, Any], str]


def _entries(given: list[Any], where: str, namespace: str | None = None) -> Iterator[_Entry | None]:
    """None for a tool that is left out."""
    check_shape(given, where)
    for number, value in enumerate(given):
        place = f"{where}[{number}]"
        tool = an_object(value, place)
        kind = a_name(tool.get("type"), f"{place}.type")
        if kind == "namespace" and namespace is None:
            name = a_name(tool.get("name"), f"{place}.name")
            yield from _entries(a_list(tool.get("tools") or [], f"{place}.tools", MAX_TOOLS), f"{place}.tools", name)
        elif kind == "function":
            yield _function(tool, place, namespace)
        elif kind == "custom":
            yield _custom(tool, place, namespace)
        else:
            yield None


def _function(tool: dict[str, Any], place: str, namespace: str | None) -> _Entry:
    nested = tool.get("function")
    tool = {**tool, **nested} if isinstance(nested, dict) else tool
    name = _name(tool, place, namespace)
    function = {"name": flat_name(name, namespace)}
    for key in ("description", "parameters", "strict"):
        if tool.get(key) is not None:
            function[key] = tool[key]
    return Called(name=name, namespace=namespace), function, place


def _custom(tool: dict[str, Any], place: str, namespace: str | None) -> _Entry:
    name = _name(tool, place, namespace)
    text: dict[str, Any] = {"type": "string"}
    form = an_object(tool.get("format") or {}, f"{place}.format")
    words = "" if tool.get("description") is None else a_text(tool["description"], f"{place}.description")
    if form.get("type") == "grammar":
        syntax = a_name(form.get("syntax"), f"{place}.format.syntax")
        rule = a_text(form.get("definition"), f"{place}.format.definition")
        words += f"\n\n'input' must match this {syntax} {'expression' if syntax == 'regex' else 'grammar'}:\n{rule}"
        if syntax == "regex" and len(rule.encode()) < MAX_PATTERN_BYTES - len("^(?:)$"):
            text["pattern"] = f"^(?:{rule})$"
    function = {
        "name": flat_name(name, namespace),
        "description": words.strip(),
        "parameters": {"type": "object", "properties": {"input": text}, "required": ["input"], "additionalProperties": False},
        "strict": True,
    }
    return Called(name=name, namespace=namespace, kind="custom"), function, place


def _name(tool: dict[str, Any], place: str, namespace: str | None) -> str:
    name = a_name(tool.get("name"), f"{place}.name")
    if namespace is None and not _FUNCTION_NAME.fullmatch(name):
        raise wrong_value("letters, digits, '_', '-' and '.' are allowed, 64 at most.", f"{place}.name")
    return name


# ---------------------------------------------------------------- the choice


def choice_of(choice: str | dict[str, Any] | None, box: Toolbox) -> Any:
    """``tool_choice`` as a chat has it; None where the model has the choice. Raises ``InvalidRequest``."""
    if choice is None or isinstance(choice, str):
        return None if choice == "auto" or (choice == "required" and box.skipped and not box.functions) else choice
    check_shape(choice, "tool_choice")
    kind = a_name(choice.get("type"), "tool_choice.type")
    if kind == "allowed_tools":
        return _allowed(choice.get("allowed_tools", choice), box)
    if kind not in ("function", "custom"):
        return None
    return {"type": "function", "function": {"name": _chosen(choice, box, "tool_choice")}}


def _allowed(given: Any, box: Toolbox) -> Any:
    allowed = an_object(given, "tool_choice.allowed_tools")
    mode = allowed.get("mode", "auto")
    if mode not in ("auto", "required"):
        raise wrong_value("it is neither 'auto' nor 'required'.", "tool_choice.mode")
    names = []
    for number, value in enumerate(a_list(allowed.get("tools"), "tool_choice.tools", MAX_TOOLS)):
        where = f"tool_choice.tools[{number}]"
        entry = an_object(value, where)
        if entry.get("type", "function") in ("function", "custom"):
            names.append(_chosen(entry, box, where))
    if not names:
        return "none"
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [{"type": "function", "name": n} for n in names]}}


def _chosen(entry: dict[str, Any], box: Toolbox, where: str) -> str:
    """A tool of a namespace may be named without it where only one has that name."""
    inner = entry.get("function", entry)
    name = a_name(an_object(inner, where).get("name"), f"{where}.name")
    flat = flat_name(name, entry.get("namespace") if isinstance(entry.get("namespace"), str) else None)
    if flat in box.called:
        return flat
    same = [known for known, called in box.called.items() if called.name == name]
    if len(same) != 1:
        raise InvalidRequest(f"'{where}' names a tool that is not in 'tools'.", param=where)
    return same[0]
