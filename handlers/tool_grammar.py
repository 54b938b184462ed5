"""Calls that have to be made are written by a grammar, in one form for every model: bare JSON.

A call is ``{"name": "…", "arguments": {…}}``, spaced like this; where several may be made it is a list of one or more of them,
``[{…}, {…}]``. The arguments keep to the tool's schema, whether the tool is strict or not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from handlers.types import GrammarSpec

MAX_CALLS = 16


def tool_call_grammar(tools: Iterable[tuple[str, str]], named: str | None, parallel: bool) -> GrammarSpec:
    """``tools`` are names with the texts of their schemas; ``named`` is the only one that may be called."""
    offered = [(name, json.loads(schema)) for name, schema in tools if named in (None, name)]
    source = {"tools": offered, "calls": MAX_CALLS if parallel else 1}
    return GrammarSpec(kind="tool_calls", source=json.dumps(source), param="tools")
