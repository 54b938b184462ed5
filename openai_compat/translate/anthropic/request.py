"""`/v1/messages` → the chat that is asked for in its place."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.anthropic.content import BLANK_LINE
from openai_compat.translate.anthropic.conversation import Conversation
from openai_compat.translate.anthropic.tools import tools_of
from schemas.anthropic import CountMessageTokensRequest, CreateMessageRequest, JsonOutputFormat, OutputConfig, ThinkingConfig

_BILLING = re.compile(r"^x-anthropic-billing-header:[^\n]*(?:\n|\Z)", re.MULTILINE)
"""A line of Claude Code's that is another one in each request; nothing behind it would be found in the cache again."""
_THINKING = ("enabled", "adaptive", "between_tools")


class Turn(Struct, frozen=True, kw_only=True):
    """A chat's body, and what is needed to give its answer the other shape.

    Args:
        names: what shortened names of tools stand for.
        stops: the stop sequences.
        origins: places in the chat, and what the client calls them.
        shows_thinking: whether the client wants thoughts at all.
        carries_thinking: whether it wants them in their signature alone.
        is_mute: whether nothing is to be said.
        is_cut: whether the chat may have fewer tokens than the client allowed, since there is no more room.
    """

    chat: dict[str, Any]
    names: dict[str, str]
    stops: tuple[str, ...] = ()
    origins: list[tuple[str, str]]
    shows_thinking: bool = False
    carries_thinking: bool = False
    is_mute: bool = False
    is_cut: bool = False


def to_turn(request: CreateMessageRequest) -> Turn:
    """Raises ``InvalidRequest`` naming the field, for all that can be known without a model."""
    turn = _prompt(request)
    last = turn.chat["messages"][-1]
    if last["role"] == "assistant":
        raise InvalidRequest(
            "An assistant message cannot be continued here (prefill): the last message must be the user's.",
            param=f"messages[{len(request.messages) - 1}]",
        )
    thinking = request.thinking
    return Turn(
        chat=turn.chat | _sampling(request),
        names=turn.names,
        stops=tuple(request.stop_sequences or ()),
        origins=turn.origins,
        shows_thinking=thinking is not None and thinking.type in _THINKING,
        carries_thinking=thinking is not None and thinking.display == "omitted",
        is_mute=request.max_tokens == 0,
    )


def to_prompt(request: CountMessageTokensRequest) -> Turn:
    """The chat whose prompt is to be counted; it may end in an answer. Raises as ``to_turn`` does."""
    return _prompt(request)


def _prompt(request: CreateMessageRequest | CountMessageTokensRequest) -> Turn:
    if request.thread is not None:
        raise UnsupportedParameter("Threads are not kept here; send all messages.", param="thread")
    conversation = Conversation(request.messages)
    tools = tools_of(request.tools, request.tool_choice)
    if not conversation.drafts:
        raise InvalidRequest("'messages' must hold more than empty messages.", param="messages")
    instructions = BLANK_LINE.join(filter(None, [_system(request), *conversation.instructions]))
    head = [{"role": "system", "content": instructions}] if instructions else []
    chat = {
        "model": request.model,
        "messages": [*head, *conversation.written()],
        **tools.fields,
        **_reasoning(request.thinking, request.output_config),
        **_format(request.output_format or (request.output_config.format if request.output_config else None)),
    }
    origins = [("messages[0]", "system")] if head else []
    return Turn(chat=chat, names=tools.names, origins=[*origins, *conversation.origins(len(head)), *tools.origins])


def _system(request: CreateMessageRequest | CountMessageTokensRequest) -> str:
    system = request.system or ""
    texts = [system] if isinstance(system, str) else [block.text for block in system]
    return BLANK_LINE.join(filter(None, (_BILLING.sub("", text) for text in texts)))


def _sampling(request: CreateMessageRequest) -> dict[str, Any]:
    fields = {
        "max_completion_tokens": max(1, request.max_tokens),
        "stop": request.stop_sequences or None,
        "temperature": request.temperature,
        "top_k": request.top_k or None,
        "top_p": request.top_p,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _reasoning(thinking: ThinkingConfig | None, output: OutputConfig | None) -> dict[str, Any]:
    """A model that thinks as it likes needs no words about it: those are for models whose template or API knows them."""
    fields: dict[str, Any] = {}
    if output is not None and output.effort is not None:
        fields["reasoning_effort"] = output.effort
    if thinking is not None and thinking.type in ("enabled", "disabled"):
        on = thinking.type == "enabled"
        budget = {"thinking_budget": thinking.budget_tokens} if on and thinking.budget_tokens else {}
        fields["chat_template_kwargs"] = {"enable_thinking": on, "thinking": on, **budget}
    return fields


def _format(wanted: JsonOutputFormat | None) -> dict[str, Any]:
    if wanted is None:
        return {}
    schema = {"name": "output", "schema": wanted.schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
