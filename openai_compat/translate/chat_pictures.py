"""A chat that is answered with pictures: wire ⇄ domain.

The last user message counts alone: its text is the prompt, and its pictures are edited. The answer's ``images`` are those of
OpenRouter, whose shape the clients that show pictures in a chat know.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from handlers.types import AudioPart, ImagePart, ImageRequest, Message, PictureResult, Verb
from openai_compat.errors import InvalidRequest
from openai_compat.translate.attachments import Media
from openai_compat.translate.chat import check, wants_picture
from openai_compat.translate.common import Facts, Meta, Refusal, refuse, to_usage, wants_usage
from openai_compat.translate.images import base64
from openai_compat.translate.messages import to_messages
from openai_compat.translate.stream import DONE
from schemas.chat import (
    AnswerImage,
    AnswerImageUrl,
    AssistantMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    ChatDelta,
)
from schemas.common import CompletionUsage

MODE = "image"
MAX_PROMPT = 32_000
_encode = msgspec.json.Encoder().encode
_REASON = "The answer is a picture."

REFUSED: tuple[Refusal, ...] = (
    Refusal("tools", _REASON, lambda b: bool(b.tools) and b.tool_choice != "none"),
    Refusal("response_format", _REASON, lambda b: b.response_format is not None and b.response_format.type != "text"),
    *(
        Refusal(name, _REASON, lambda b, name=name: getattr(b, name) is not None)  # type: ignore[misc]
        for name in ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")
    ),
    Refusal("logprobs", _REASON, lambda b: bool(b.logprobs)),
    Refusal("logit_bias", _REASON, lambda b: bool(b.logit_bias)),
    Refusal("stop", _REASON, lambda b: bool(b.stop)),
)


# ---------------------------------------------------------------- request


def paints(body: ChatCompletionRequest, facts: Facts, verb: Verb, capabilities: Collection[Verb]) -> bool:
    """Whether a chat that would need ``verb`` is answered with pictures: it says so, or nothing else can be done."""
    if "generate_image" not in capabilities:
        return False
    return wants_picture(body) or (body.mode or facts.mode) == MODE or verb not in capabilities


def to_request(body: ChatCompletionRequest, facts: Facts, media: Media) -> ImageRequest:
    """Raises ``InvalidRequest`` naming the field; the request's own mode wins over the one in the model's name."""
    check(body)
    refuse(body, REFUSED)
    prompt, message = _asked(to_messages(body.messages, media))
    pictures = tuple(part.picture for part in message.parts if isinstance(part, ImagePart))
    task: Literal["generate", "edit", "vary"] = ("edit" if prompt else "vary") if pictures else "generate"
    return ImageRequest(
        prompt=prompt,
        task=task,
        n=body.n or 1,
        seed=body.seed,
        images=pictures,
        mode=body.mode or facts.mode,
        mode_options=body.mode_options or {},
        stream=bool(body.stream),
    )


def _asked(messages: tuple[Message, ...]) -> tuple[str, Message]:
    """The last user message and its text. Raises ``InvalidRequest`` where nothing can be painted of it."""
    message = next((message for message in reversed(messages) if message.role == "user"), None)
    if message is None:
        raise InvalidRequest("A picture needs a user message.", param="messages")
    if any(isinstance(part, AudioPart) for part in message.parts):
        raise InvalidRequest("No picture can be made of a recording by this model.", param="messages")
    prompt = message.text.strip()
    if not prompt and not any(isinstance(part, ImagePart) for part in message.parts):
        raise InvalidRequest("The last user message says nothing to paint.", param="messages")
    if len(prompt) > MAX_PROMPT:
        raise InvalidRequest(f"What is to be painted can be {MAX_PROMPT} characters long.", param="messages")
    return prompt, message


# ---------------------------------------------------------------- answer


def to_response(result: PictureResult, files: Sequence[bytes], meta: Meta) -> ChatCompletion:
    """``files`` are the encoded pictures of ``result``, each of which is a choice."""
    return ChatCompletion(
        id=meta.id,
        created=meta.created,
        model=meta.model,
        choices=[
            ChatChoice(index=index, message=AssistantMessage(content="", images=[_image(file)]), finish_reason="stop")
            for index, file in enumerate(files)
        ],
        usage=to_usage(result.usage),
    )


class PictureChunks:
    """Makes the events of one streamed answer."""

    def __init__(self, body: ChatCompletionRequest, meta: Meta) -> None:
        self._meta = meta
        self._include_usage = wants_usage(body)

    def picture(self, index: int, file: bytes) -> bytes:
        """All events of one choice."""
        deltas = (ChatDelta(role="assistant", content=""), ChatDelta(images=[_image(file)]))
        pieces = [self._choice(ChatChunkChoice(index=index, delta=delta)) for delta in deltas]
        return b"".join(pieces) + self._choice(ChatChunkChoice(index=index, delta=ChatDelta(), finish_reason="stop"))

    def finish(self, result: PictureResult) -> bytes:
        """The usage event if asked for, and the end of the stream."""
        return (self._framed([], to_usage(result.usage)) if self._include_usage else b"") + DONE

    def _choice(self, choice: ChatChunkChoice) -> bytes:
        return self._framed([choice], None if self._include_usage else UNSET)

    def _framed(self, choices: list[ChatChunkChoice], usage: CompletionUsage | UnsetType | None) -> bytes:
        meta = self._meta
        chunk = ChatCompletionChunk(id=meta.id, created=meta.created, model=meta.model, choices=choices, usage=usage)
        return b"data: " + _encode(chunk) + b"\n\n"


def _image(file: bytes) -> AnswerImage:
    return AnswerImage(image_url=AnswerImageUrl(url="data:image/png;base64," + base64(file)))
