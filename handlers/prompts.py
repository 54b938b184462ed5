"""From a text request to token ids: which text the model continues, and how it becomes tokens.

A client's words never become control tokens in a rendered chat: where a message holds the text of one (``<|im_end|>``), it is
encoded as plain text. Plain prompts are the client's own business and may hold them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from msgspec.structs import replace

from handlers import types as t
from handlers.chat_template import ChatTemplate
from handlers.conversation import PLAIN_STOPS, Definitions, definitions, render
from handlers.decoding.engine import Prompt
from handlers.decoding.vocabulary import Vocabulary
from handlers.modes import last_user
from handlers.text_modes import RAW_MODE
from openai_compat.errors import ContextLengthExceeded, InvalidRequest

OPEN, CLOSE = "\ue000", "\ue001"


class PromptBuilder:
    """Makes prompts for one model.

    Args:
        context_length: in tokens.
        bos: begins a prompt that would be empty.
        control: further texts that a client's words must not become.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: ChatTemplate | None,
        *,
        context_length: int,
        bos: int | None = None,
        control: tuple[str, ...] = (),
    ) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = vocabulary.tokenizer
        self._template = template
        self._context_length = context_length
        self._bos = bos
        texts = sorted({*vocabulary.special_texts, *control}, key=len, reverse=True)
        pattern = "|".join(map(re.escape, texts)) or "(?!)"
        self._control = re.compile(pattern)
        self._marked = re.compile(f"{OPEN}({pattern}){CLOSE}")

    def build(self, request: t.TextRequest) -> tuple[Prompt, ...]:
        """One prompt a conversation or plain prompt. Raises ``ContextLengthExceeded`` and ``InvalidRequest``."""
        if is_raw(request):
            if request.offers_tools:
                raise InvalidRequest(f"The mode '{RAW_MODE}' cannot call tools.", param="tools")
            if request.messages is not None:
                return (self._continued(request.messages, request),)
            return tuple(self._plain(prompt, request) for prompt in request.prompts or ())
        if request.messages is not None:
            return (self._chat(request.messages, request),)
        return tuple(self._chat((_as_message(prompt),), request) for prompt in request.prompts or ())

    def tokenized(self, request: t.TokenRequest) -> Prompt:
        """A chat's prompt, or a text as it is; or the text of ids, which ``limit`` says nothing of. Raises as ``build``."""
        if request.chat is not None:
            return self.build(replace(request.chat, counted=True))[0]
        if request.text is None:
            return Prompt(ids=request.ids, text=self._tokenizer.decode(list(request.ids)), limit=0)
        self._check_size(request.text, t.TextRequest(prompts=(), counted=True))
        return Prompt(ids=tuple(self._encode(request.text, start=request.start)), text=request.text, limit=0)

    def extra_stops(self, request: t.TextRequest) -> tuple[str, ...]:
        """Where a chat without a template ends an answer."""
        return PLAIN_STOPS if self._template is None and not is_raw(request) else ()

    def _continued(self, messages: tuple[t.Message, ...], request: t.TextRequest) -> Prompt:
        where = last_user(messages)
        if where is None:
            raise InvalidRequest("There is no user message with text to continue.", param="messages")
        return self._plain(messages[where].text, request)

    def _chat(self, messages: tuple[t.Message, ...], request: t.TextRequest) -> Prompt:
        return self._worded(self._rendered(messages, request), request)

    def _worded(self, text: str, request: t.TextRequest) -> Prompt:
        self._check_size(text, request)
        return self._prompt(self._tokens(text, start=self._needs_start(text)), self._marked.sub(r"\1", text), request)

    def _rendered(self, messages: tuple[t.Message, ...], request: t.TextRequest) -> str:
        """The conversation as text, in which a client's control tokens are marked."""
        marked = tuple(self._mark(message) for message in messages)
        system = self._mark_text(request.system_prompt or "")
        return render(
            self._template,
            marked,
            system,
            dict(request.template_options),
            self._tools(request),
            forced=request.must_call,
            bare=request.grammar is not None,
        )

    def _needs_start(self, text: str) -> bool:
        """Whether the tokenizer has to add what begins a text: a template writes it itself."""
        return self._template is None

    def _tokens(self, text: str, *, start: bool) -> list[int]:
        """Ids of a text, in which what is marked becomes no control token."""
        head, *rest = self._marked.split(text)
        ids = self._encode(head, start=start)
        for i, piece in enumerate(rest):
            ids += self._encode_inert(piece) if i % 2 == 0 else self._encode(piece)
        return ids

    def _tools(self, request: t.TextRequest) -> Definitions | None:
        if not request.offers_tools:
            return None
        marked: Definitions = self._mark_value(definitions(request.tools))
        return marked

    def _plain(self, prompt: t.Prompt, request: t.TextRequest) -> Prompt:
        if not isinstance(prompt, str):
            return self._prompt(list(prompt), self._tokenizer.decode(list(prompt)), request)
        self._check_size(prompt, request)
        return self._prompt(self._encode(prompt, start=True), prompt, request)

    def _prompt(self, ids: list[int], text: str, request: t.TextRequest) -> Prompt:
        if not ids and self._bos is None:
            raise InvalidRequest("The prompt is empty, and this model has no token to begin with.", param=request.prompt_param)
        ids = ids or [self._bos or 0]
        return Prompt(ids=tuple(ids), text=text, limit=self._fit(len(ids), request))

    def _fit(self, count: int, request: t.TextRequest) -> int:
        """How many tokens an answer may have: what was asked for, else what the context has left."""
        asked = request.sampling.max_tokens
        if count + (1 if asked is None else asked) > self._context_length and not request.counted:
            raise self._too_long(count, request)
        return self._context_length - count if asked is None else asked

    def _check_size(self, text: str, request: t.TextRequest) -> None:
        """Refuse what cannot fit by its bytes alone, before the tokenizer spends seconds on it."""
        least = len(text.encode(errors="replace")) // self._vocabulary.longest
        if least > self._context_length:
            raise self._too_long(least, request)

    def _too_long(self, count: int, request: t.TextRequest) -> ContextLengthExceeded:
        asked = request.sampling.max_tokens
        return ContextLengthExceeded(
            prompt_tokens=count,
            max_tokens=1 if asked is None else asked,
            context_length=self._context_length,
            param=request.prompt_param,
        )

    def _encode(self, text: str, *, start: bool = False) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=start)) if text or start else []

    def _encode_inert(self, text: str) -> list[int]:
        """A control token's text in pieces that are none."""
        ids = self._encode(text[:1]) + self._encode(text[1:])
        if self._vocabulary.special.isdisjoint(ids):
            return ids
        return [number for letter in text for number in self._encode(letter)]

    def _mark(self, message: t.Message) -> t.Message:
        if not message.tool_calls and not any(self._control.search(text) for text in _strings(message)):
            return message
        parts = tuple(t.TextPart(text=self._mark_text(p.text)) if isinstance(p, t.TextPart) else p for p in message.parts)
        calls = tuple(
            t.ToolCall(id=call.id, name=self._mark_text(call.name), arguments=self._mark_json(call.arguments))
            for call in message.tool_calls
        )
        return t.Message(
            role=message.role,
            parts=parts,
            tool_calls=calls,
            tool_call_id=message.tool_call_id,
            name=self._mark_text(message.name or "") or None,
            reasoning=self._mark_text(message.reasoning or "") or None,
        )

    def _mark_json(self, text: str) -> str:
        """Looks behind the escapes, which the template will have undone."""
        try:
            return json.dumps(self._mark_value(json.loads(text)), ensure_ascii=False)
        except (ValueError, RecursionError):
            return self._mark_text(text)

    def _mark_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._mark_text(value)
        if isinstance(value, list):
            return [self._mark_value(item) for item in value]
        if isinstance(value, dict):
            return {self._mark_text(key): self._mark_value(item) for key, item in value.items()}
        return value

    def _mark_text(self, text: str) -> str:
        return self._control.sub(lambda match: f"{OPEN}{match[0]}{CLOSE}", text)


def is_raw(request: t.TextRequest) -> bool:
    """Whether the text is continued as it is: in the mode ``complete``, and for prompts without a mode."""
    return request.mode == RAW_MODE or (request.mode in (None, "auto") and request.messages is None)


def _as_message(prompt: t.Prompt) -> t.Message:
    if not isinstance(prompt, str):
        raise InvalidRequest("This mode needs prompts of text, not of token ids.", param="prompt")
    return t.Message(role="user", parts=(t.TextPart(text=prompt),))


def _strings(message: t.Message) -> list[str]:
    return [message.text, message.name or "", message.reasoning or ""]
