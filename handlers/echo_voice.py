"""What the echo handler says: its script, what it repeats, and one answer being spoken."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from handlers import types as t
from handlers.decoding.stops import StopMatcher
from handlers.modes import last_user
from handlers.output import OutputFormat
from handlers.reasoning import STYLES
from handlers.tools.parser import DIALECTS

MAX_TOKENS = 100_000
DIRECTIVE = re.compile(r"\[\[(\w{1,32})=([^\[\]]{0,4096})\]\]")
WORD = re.compile(r"\S+\s*")
_MEDIA: dict[type, str] = {t.ImagePart: "picture", t.AudioPart: "recording"}


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an answer does; times in seconds."""

    tokens: int | None = None
    answer: str | None = None
    then: str | None = None
    delay: float = 0.0
    first_delay: float = 0.0
    fail_after: int | None = None
    finish: t.FinishReason = "stop"
    tool_parser: str = "hermes"
    reasoning_parser: str = "none"


class EchoInputs(Struct, frozen=True, kw_only=True):
    """What the "model" runs on: for each prompt the text to repeat, and how many tokens the prompt has."""

    texts: tuple[str, ...]
    counts: tuple[int, ...]
    script: Script


def merge(script: Script, changes: Mapping[str, Any]) -> Script:
    """``script`` with some values changed. Raises ``ValueError`` with a sentence about what is wrong."""
    merged = msgspec.convert({**msgspec.structs.asdict(script), **changes}, Script, strict=False)
    if (merged.tokens or 0) > MAX_TOKENS or not all(map(math.isfinite, (merged.delay, merged.first_delay))):
        raise ValueError(f"at most {MAX_TOKENS} tokens and finite delays")
    format_of(merged)
    return merged


def format_of(script: Script) -> OutputFormat:
    """How the "model" writes calls and reasoning. Raises ``ValueError``."""
    if script.tool_parser not in DIALECTS or script.reasoning_parser not in (*STYLES, "none"):
        raise ValueError("there is no such parser")
    return OutputFormat(dialect=script.tool_parser, reasoning=script.reasoning_parser)


class Voice:
    """One choice being spoken, a word a step."""

    def __init__(self, index: int, inputs: EchoInputs, request: t.Request, sampling: t.Sampling) -> None:
        self.index = index
        self.spoken = 0
        self.finish: t.FinishReason | None = None
        self._script = inputs.script
        self._words = self._all_words(inputs.texts[index // sampling.n], _in_turn(inputs.script, request))
        self._limit = len(self._words) if sampling.max_tokens is None else sampling.max_tokens
        self._logprobs = sampling.logprobs
        self._stops = StopMatcher(sampling.stop)
        self._said: list[str] = []
        self._tokens: list[t.TokenLogprob] = []
        self._echo = inputs.texts[index // sampling.n] if isinstance(request, t.TextRequest) and request.echo else ""

    @staticmethod
    def _all_words(text: str, script: Script) -> list[str]:
        words: list[str] = WORD.findall(text if script.answer is None else script.answer)
        if script.tokens is None or not words:
            return words
        around = [word if word[-1].isspace() else word + " " for word in words]
        return [around[i % len(around)] for i in range(script.tokens)]

    @property
    def finished(self) -> bool:
        return self.finish is not None

    def step(self) -> t.TextDelta | None:
        end = min(self._limit, len(self._words))
        word = self._words[self.spoken] if self.spoken < end else ""
        self.spoken += bool(word)
        text = self._stops.feed(word)
        if self._stops.hit:
            self.finish = "stop"
        elif self.spoken >= end:
            self.finish = "length" if end < len(self._words) else self._script.finish
            text += self._stops.finish()
        return self._delta(text, self._logprob(word) if word and text else ())

    @property
    def sizes(self) -> list[int]:
        """Bytes of each word that was spoken."""
        return [len(word.encode(errors="replace")) for word in self._words[: self.spoken]]

    def choice(self) -> t.TextChoice:
        logprobs = None if self._logprobs is None else tuple(self._tokens)
        text, finish = "".join(self._said), self.finish or "stop"
        return t.TextChoice(index=self.index, text=text, finish_reason=finish, logprobs=logprobs, stop=self._stops.hit)

    def _delta(self, text: str, logprobs: tuple[t.TokenLogprob, ...]) -> t.TextDelta | None:
        text, self._echo = self._echo + text, ""
        if not text:
            return None
        self._said.append(text)
        self._tokens.extend(logprobs)
        return t.TextDelta(index=self.index, text=text, logprobs=logprobs)

    def _logprob(self, word: str) -> tuple[t.TokenLogprob, ...]:
        """The word is certain, and each rival a little less likely than the one before."""
        if self._logprobs is None:
            return ()
        names = [word, *(f"{word.strip()}{i}" for i in range(1, self._logprobs))][: self._logprobs]
        top = tuple(t.TopLogprob(token=name, logprob=0.0 - i, token_bytes=name.encode()) for i, name in enumerate(names))
        offset = sum(map(len, self._said)) + len(self._echo)
        return (t.TokenLogprob(token=word, logprob=0.0, token_bytes=word.encode(), top=top, text_offset=offset),)


def _in_turn(script: Script, request: t.Request) -> Script:
    """With its ``then`` for an answer where the chat ends with what a tool gave back."""
    messages = request.messages if isinstance(request, t.TextRequest) else None
    if script.then is None or not messages or messages[-1].role != "tool":
        return script
    return msgspec.structs.replace(script, answer=script.then)


def texts_of(request: t.Request) -> tuple[str, ...]:
    """What is repeated: the last user text, each prompt, or a short name for bytes."""
    match request:
        case t.TextRequest(messages=None):
            return tuple(p if isinstance(p, str) else " ".join(map(str, p)) for p in request.prompts or ())
        case t.TextRequest(messages=messages):
            return (_last_text(messages or ()),)
        case t.ImageRequest() | t.VideoRequest():
            return (request.prompt,)
        case t.SpeechRequest():
            return (request.text,)
        case t.ImageTaskRequest():
            return (_name("picture", request.picture.pixels),)
        case t.AudioTaskRequest():
            return (f"{request.prompt or ''} {_name('recording', request.audio.pcm)}".strip(),)
        case t.TokenRequest():
            return (_token_text(request),)
        case t.ClassifyRequest():
            return request.texts
        case t.RankRequest():
            return (request.query, *request.documents)
        case _:
            texts = [text if isinstance(text, str) else " ".join(map(str, text)) for text in request.texts]
            images = [_name("picture", image.pixels) for image in request.images]
            both = zip(texts, images, strict=False) if texts and images else None
            return tuple(f"{text} {image}" for text, image in both) if both else tuple(texts or images)


def contexts_of(request: t.Request, raw: tuple[str, ...]) -> tuple[str, ...]:
    """What counts as the prompt: all messages and the system prompt of a chat."""
    if isinstance(request, t.TokenRequest) and request.chat is not None:
        return contexts_of(request.chat, raw)
    if not isinstance(request, t.TextRequest) or request.messages is None:
        return raw
    return (" ".join([request.system_prompt or "", *(message.text for message in request.messages)]),)


def _token_text(request: t.TokenRequest) -> str:
    if request.chat is not None:
        return contexts_of(request.chat, ())[0]
    return " ".join(map(str, request.ids)) if request.text is None else request.text


def _last_text(messages: tuple[t.Message, ...]) -> str:
    where = last_user(messages)
    message = messages[-1] if where is None else messages[where]
    media = [_media_name(part) for part in message.parts if not isinstance(part, t.TextPart)]
    return " ".join([message.text, *media]).strip()


def _media_name(part: t.ImagePart | t.AudioPart) -> str:
    if isinstance(part, t.ImagePart):
        return _name("picture", part.picture.pixels)
    return _name("recording", part.sound.pcm)


def _name(kind: str, data: bytes) -> str:
    return f"{kind}-{hashlib.sha256(data).hexdigest()[:8]}"
