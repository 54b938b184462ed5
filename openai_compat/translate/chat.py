"""`/v1/chat/completions`: wire ⇄ domain."""

from __future__ import annotations

from msgspec import UNSET

from handlers.types import TextChoice, TextDelta, TextRequest, TextResult, ToolCallDelta, Verb
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.attachments import Attachment, Media, stand_ins
from openai_compat.translate.common import Facts, Meta, Refusal, refuse, sampling_of, to_usage, wants_usage
from openai_compat.translate.logprobs import to_chat_logprobs
from openai_compat.translate.messages import attachments_of, remote_of, to_messages
from openai_compat.translate.stream import TextStream, encode
from openai_compat.translate.structured import grammar_of
from openai_compat.translate.tools import parallel_of, tools_of
from schemas.chat import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionRequest,
    FunctionCall,
    FunctionCallPiece,
    NamedToolChoice,
    ToolCall,
    ToolCallPiece,
)

ID_PREFIX = "chatcmpl"

REFUSED: tuple[Refusal, ...] = (
    Refusal("tools", "Only functions can be called.", lambda b: any(tool.type != "function" for tool in b.tools or ())),
    Refusal(
        "tool_choice",
        "Only functions can be called.",
        lambda b: isinstance(b.tool_choice, NamedToolChoice) and b.tool_choice.type == "custom",
    ),
    Refusal(
        "functions",
        "Offer them as 'tools'.",
        lambda b: bool(b.functions) and b.function_call != "none",
    ),
    Refusal("function_call", "Use 'tools' and 'tool_choice'.", lambda b: b.function_call not in (None, "none", "auto")),
    Refusal("modalities", "Answers are text or pictures.", lambda b: "audio" in (b.modalities or ())),
    Refusal("audio", "Answers cannot be spoken.", lambda b: b.audio is not None),
    Refusal("web_search_options", "This server does not search the web.", lambda b: b.web_search_options is not None),
    Refusal("chat_template", "A model's own chat template is used, never a client's.", lambda b: b.chat_template is not None),
)

TEMPLATE_OPTIONS = frozenset(
    {
        "clear_thinking",
        "date_string",
        "enable_thinking",
        "model_identity",
        "preserve_thinking",
        "reasoning_effort",
        "thinking",
        "thinking_budget",
    }
)
"""The names that a client may hand to a chat template; any other could take over an argument of the rendering itself."""


# ---------------------------------------------------------------- request


def plan(body: ChatCompletionRequest) -> tuple[Verb, ...]:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verbs that will do."""
    check(body)
    attachments = attachments_to_decode(body)
    _to_domain(body, stand_ins(attachments), mode=body.mode, cache_salt="")
    return ("generate_image",) if wants_picture(body) else (verb_of(attachments), "generate_image")


def wants_picture(body: ChatCompletionRequest) -> bool:
    """As OpenRouter's clients ask for one; beside it a mode may."""
    return "image" in (body.modalities or ())


def attachments_to_decode(body: ChatCompletionRequest) -> tuple[Attachment, ...]:
    return attachments_of(body.messages)


def remote(body: ChatCompletionRequest) -> str | None:
    """The first field that has its file on another server."""
    return remote_of(body.messages)


def verb_of(attachments: tuple[Attachment, ...]) -> Verb:
    return "process_multimodal" if attachments else "generate_text"


def to_request(body: ChatCompletionRequest, facts: Facts, media: Media) -> TextRequest:
    """Raises what ``plan`` raises. The request's own mode wins over the one in the model's name."""
    check(body)
    return _to_domain(body, media, mode=body.mode or facts.mode, cache_salt=facts.cache_salt)


def check(body: ChatCompletionRequest) -> None:
    """What is refused whatever the messages say, and whatever the answer is."""
    refuse(body, REFUSED)
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    for name in body.chat_template_kwargs or ():
        if name not in TEMPLATE_OPTIONS:
            known = ", ".join(sorted(TEMPLATE_OPTIONS))
            raise UnsupportedParameter(f"Unknown template option. Known: {known}.", param=f"chat_template_kwargs.{name}")


def _to_domain(body: ChatCompletionRequest, media: Media, *, mode: str | None, cache_salt: str) -> TextRequest:
    max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    tools, tool_choice = tools_of(body)
    return TextRequest(
        messages=to_messages(body.messages, media),
        sampling=sampling_of(body, max_tokens=max_tokens, logprobs=(body.top_logprobs or 0) if body.logprobs else None),
        grammar=grammar_of(body),
        mode=mode,
        mode_options=body.mode_options or {},
        stream=bool(body.stream),
        template_options=_template_options(body),
        cache_salt=cache_salt,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=parallel_of(body, tool_choice),
    )


def _template_options(body: ChatCompletionRequest) -> dict[str, str | int | float | bool | None]:
    effort = {"reasoning_effort": body.reasoning_effort} if body.reasoning_effort else {}
    return {**effort, **(body.chat_template_kwargs or {})}


# ---------------------------------------------------------------- answer


def to_response(result: TextResult, meta: Meta) -> ChatCompletion:
    return ChatCompletion(
        id=meta.id,
        created=meta.created,
        model=meta.model,
        choices=[_to_choice(choice) for choice in result.choices],
        usage=to_usage(result.usage),
    )


def _to_choice(choice: TextChoice) -> ChatChoice:
    return ChatChoice(
        index=choice.index,
        message=_to_message(choice),
        logprobs=None if choice.logprobs is None else to_chat_logprobs(choice.logprobs),
        finish_reason=choice.finish_reason,
        stop_reason=UNSET if choice.stop is None else choice.stop,
    )


def _to_message(choice: TextChoice) -> AssistantMessage:
    calls = [ToolCall(id=c.id, function=FunctionCall(name=c.name, arguments=c.arguments)) for c in choice.tool_calls]
    return AssistantMessage(
        content=None if calls and not choice.text else choice.text,
        tool_calls=calls or UNSET,
        reasoning_content=choice.reasoning or UNSET,
        reasoning=choice.reasoning or UNSET,
    )


class ChatStream(TextStream):
    """The events of one chat answer; ``schemas.chat.ChatCompletionChunk`` is what they hold."""

    def __init__(self, meta: Meta, *, include_usage: bool) -> None:
        super().__init__(meta, object="chat.completion.chunk", include_usage=include_usage)
        self._close = b'},"logprobs":null,"finish_reason":null' + self._tail

    @classmethod
    def of(cls, body: ChatCompletionRequest, meta: Meta) -> ChatStream:
        return cls(meta, include_usage=wants_usage(body))

    def _begin(self, delta: TextDelta) -> bytes:
        content = b"null" if delta.tool_calls and not delta.text else b'""'
        return self._open + b'%d,"delta":{"role":"assistant","content":' % delta.index + content + self._close

    def _piece(self, delta: TextDelta) -> bytes:
        head = self._open + b'%d,"delta":{"content":' % delta.index + encode(delta.text)
        if not delta.logprobs:
            return head + self._close
        return head + b'},"logprobs":' + encode(to_chat_logprobs(delta.logprobs)) + b',"finish_reason":null' + self._tail

    def _thought(self, delta: TextDelta) -> bytes:
        text = encode(delta.reasoning)
        head = self._open + b'%d,"delta":{"reasoning_content":' % delta.index + text
        return head + b',"reasoning":' + text + self._close

    def _call(self, index: int, piece: ToolCallDelta) -> bytes:
        wire = ToolCallPiece(
            index=piece.index,
            id=piece.id or UNSET,
            type="function" if piece.id else UNSET,
            function=FunctionCallPiece(name=piece.name or UNSET, arguments=piece.arguments),
        )
        return self._open + b'%d,"delta":{"tool_calls":[' % index + encode(wire) + b"]" + self._close

    def _end(self, choice: TextChoice) -> bytes:
        reason = encode(choice.finish_reason)
        if choice.stop is not None:
            reason += b',"stop_reason":' + encode(choice.stop)
        return self._open + b'%d,"delta":{},"logprobs":null,"finish_reason":' % choice.index + reason + self._tail
