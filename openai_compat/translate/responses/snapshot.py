"""A response before its answer: what the client asked for, said again, complete in each state."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from openai_compat.errors import APIError, InvalidRequest, RateLimited
from schemas.answers import ReadUsage
from schemas.responses import ConversationReference, CreateResponseRequest, ReasoningOptions, TextOptions
from schemas.responses_answer import (
    InputTokensDetails,
    OutputTokensDetails,
    Response,
    ResponseError,
    ResponseUsage,
)

_TIERS = frozenset({"default", "flex", "scale", "priority", "fast", "ultrafast"})
_CODES = frozenset(
    {
        "server_error",
        "rate_limit_exceeded",
        "invalid_prompt",
        "vector_store_timeout",
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "image_content_policy_violation",
        "invalid_image_mode",
        "image_file_too_large",
        "unsupported_image_media_type",
        "empty_image_file",
        "failed_to_download_image",
        "image_file_not_found",
    }
)
"""Those of OpenAI's schema that can come about here."""


def snapshot(request: CreateResponseRequest, *, id: str, created: int, conversation: str | None) -> Response:
    """``temperature`` and ``top_p`` are 1 where the client left them to the model, whose own may differ."""
    return Response(
        id=id,
        created_at=created,
        status="queued" if request.background else "in_progress",
        background=bool(request.background),
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        model=request.model,
        parallel_tool_calls=request.parallel_tool_calls is not False,
        previous_response_id=request.previous_response_id,
        conversation=None if conversation is None else ConversationReference(id=conversation),
        prompt_cache_key=request.prompt_cache_key,
        reasoning=_reasoning(request.reasoning or ReasoningOptions()),
        safety_identifier=request.safety_identifier,
        service_tier=tier_of(request.service_tier),
        store=request.store is not False,
        temperature=1.0 if request.temperature is None else request.temperature,
        text=_text(request.text or TextOptions()),
        tool_choice=request.tool_choice or "auto",
        tools=[_tool(tool) for tool in request.tools or ()],
        top_logprobs=request.top_logprobs or 0,
        top_p=1.0 if request.top_p is None else request.top_p,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        truncation=request.truncation or "disabled",
        user=UNSET if request.user is None else request.user,
        metadata=request.metadata or {},
    )


def tier_of(tier: str | None) -> str:
    """What was served, where it is one that clients know."""
    return tier if tier in _TIERS else "default"


def usage_of(usage: ReadUsage) -> ResponseUsage:
    given, made = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return ResponseUsage(
        input_tokens=given,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached),
        output_tokens=made,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.thought),
        total_tokens=usage.total_tokens or given + made,
    )


def error_of(error: APIError) -> ResponseError:
    """With the nearest of the codes that clients know."""
    if error.code in _CODES:
        return ResponseError(code=error.code, message=error.message)
    if isinstance(error, RateLimited):
        return ResponseError(code="rate_limit_exceeded", message=error.message)
    code = "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
    return ResponseError(code=code, message=error.message)


def _reasoning(asked: ReasoningOptions) -> dict[str, Any]:
    said = {"effort": asked.effort, "summary": asked.summary or asked.generate_summary}
    more = {"context": asked.context, "mode": asked.mode}
    return {**said, **{name: value for name, value in more.items() if value is not None}}


def _text(asked: TextOptions) -> dict[str, Any]:
    return {"format": asked.format or {"type": "text"}, "verbosity": asked.verbosity or "medium"}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """As the client sent it, with the keys that a strict reader needs."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
