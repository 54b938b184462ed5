"""Tools that Anthropic defines and the client runs: their models know them by name, others need their schemas."""

from __future__ import annotations

from typing import Any

Definition = tuple[str, dict[str, Any]]
_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_RANGE = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
_POINT = {**_RANGE, "description": "x and y, in pixels"}
_WORDS_OF_FILES = {
    "path": _TEXT,
    "file_text": {"type": "string", "description": "for create: what the file is to hold"},
    "old_str": {"type": "string", "description": "for str_replace: what stands there, once"},
    "new_str": {"type": "string", "description": "for str_replace: what is to stand there"},
    "insert_line": {"type": "integer", "description": "for insert: the line behind which; 0 is the beginning"},
    "insert_text": {"type": "string", "description": "for insert: what is put there"},
    "view_range": {**_RANGE, "description": "for view: first and last line; -1 is the end"},
}


def definition_of(kind: str) -> Definition | None:
    """Description and schema of a type such as ``bash_20250124``; None where Anthropic's servers run the tool."""
    return next((definition for prefix, definition in _DEFINITIONS.items() if _is_of(kind, prefix)), None)


def _is_of(kind: str, prefix: str) -> bool:
    """The prefix and a date: ``computer_toolset_20260801`` is another one than ``computer_20250124``."""
    return kind.startswith(prefix) and kind[len(prefix) :].isdigit()


def _command(names: list[str], others: dict[str, Any], required: list[str]) -> dict[str, Any]:
    properties = {"command": {"type": "string", "enum": names}, **others}
    return {"type": "object", "properties": properties, "required": required}


_BASH = {
    "type": "object",
    "properties": {"command": _TEXT, "restart": {"type": "boolean", "description": "begin a new shell"}},
}
_COMPUTER = {
    "type": "object",
    "properties": {
        "action": {
            "type": "string",
            "enum": [
                "screenshot", "left_click", "right_click", "middle_click", "double_click", "triple_click", "mouse_move",
                "left_click_drag", "left_mouse_down", "left_mouse_up", "scroll", "key", "hold_key", "type", "wait",
                "cursor_position", "zoom",
            ],
        },
        "coordinate": _POINT,
        "start_coordinate": _POINT,
        "text": {"type": "string", "description": "what to type, or the keys to press"},
        "scroll_direction": {"type": "string", "enum": ["up", "down", "left", "right"]},
        "scroll_amount": _NUMBER,
        "duration": {"type": "number", "description": "seconds"},
        "region": {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4},
    },
    "required": ["action"],
}  # fmt: skip
_EDITOR = _command(["view", "create", "str_replace", "insert"], _WORDS_OF_FILES, ["command", "path"])
_MOVES = {"old_path": _TEXT, "new_path": _TEXT}
_MEMORY = _command(["view", "create", "str_replace", "insert", "delete", "rename"], {**_WORDS_OF_FILES, **_MOVES}, ["command"])
_DEFINITIONS: dict[str, Definition] = {
    "bash_": ("Run commands in a shell that stays open.", _BASH),
    "text_editor_": ("View and edit text files.", _EDITOR),
    "computer_": ("Use a computer by its screen, mouse and keyboard.", _COMPUTER),
    "memory_": ("Keep notes as files under /memories, from one conversation to the next.", _MEMORY),
}
