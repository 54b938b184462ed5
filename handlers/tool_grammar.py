"""Which grammar an answer keeps to where tools are offered.

Calls that have to be made are written by a grammar, in one form for every model: bare JSON. A call is
``{"name": "…", "arguments": {…}}``, spaced like this; where several may be made it is a list of one or more of them,
``[{…}, {…}]``. The arguments keep to the tool's schema, whether the tool is strict or not.

Calls that may be made are free, but for two cases. With a format beside the tools the answer is a bare call or keeps to the
format. With a strict tool, and a model that marks its calls as Hermes does, whatever it marks is a call, and its arguments keep
to the schema if the tool is strict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from handlers.types import GrammarSpec, TextRequest

MAX_CALLS = 16


def grammar_for(request: TextRequest, *, marks: bool) -> GrammarSpec | None:
    """``marks``: the model marks its calls as Hermes does, in letters; a grammar of texts knows no control tokens."""
    if not request.offers_tools:
        return request.grammar
    if request.must_call and request.tool_choice is not None:
        tools = [(tool.name, tool.parameters) for tool in request.tools]
        return tool_call_grammar(tools, request.tool_choice.name, request.parallel_tool_calls)
    if request.grammar is not None:
        return _or_format(request, request.grammar)
    return _marked(request) if marks and any(tool.strict for tool in request.tools) else None


def _or_format(request: TextRequest, wanted: GrammarSpec) -> GrammarSpec:
    tools = [(tool.name, json.loads(tool.parameters)) for tool in request.tools]
    most = MAX_CALLS if request.parallel_tool_calls else 1
    source = {"tools": tools, "most": most, "kind": wanted.kind, "source": wanted.source}
    return GrammarSpec(kind="calls_or", source=json.dumps(source), param=wanted.param)


def _marked(request: TextRequest) -> GrammarSpec:
    tools = [(tool.name, json.loads(tool.parameters) if tool.strict else {}) for tool in request.tools]
    source = {"tools": tools, "parallel": request.parallel_tool_calls}
    return GrammarSpec(kind="marked_calls", source=json.dumps(source), param="tools")


def tool_call_grammar(tools: Iterable[tuple[str, str]], named: str | None, parallel: bool) -> GrammarSpec:
    """``tools`` are names with the texts of their schemas; ``named`` is the only one that may be called."""
    offered = [(name, json.loads(schema)) for name, schema in tools if named in (None, name)]
    source = {"tools": offered, "calls": MAX_CALLS if parallel else 1}
    return GrammarSpec(kind="tool_calls", source=json.dumps(source), param="tools")
