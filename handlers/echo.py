"""A handler without a model: it answers every verb by repeating what it was given, and does as the script says.

For trying a client, for tests of everything around a model, and as the shortest example of a handler. A script comes from the
model's ``options`` and from directives in the last user text, which win and are left out of the answer::

    [[tokens=50]]       answer with this many tokens, the input's words over and over
    [[answer=Hello]]    answer with this text
    [[then=Done]]       and with this one where the chat ends with what a tool gave back
    [[delay=0.1]]       seconds before each token; [[first_delay=2]] before the first
    [[fail_after=3]]    raise an error after so many tokens
    [[finish=length]]   the finish reason of an answer that is complete
    [[tool_parser=json]]        read its own answer as a model of this dialect, where tools are offered
    [[reasoning_parser=think]]  and its reasoning in these marks

Tokens are words with the white space behind them.
"""

from __future__ import annotations

import hashlib
import math
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from handlers import types as t
from handlers.base import BaseHandler
from handlers.echo_media import SAMPLE_RATE, color_of, plain, tone
from handlers.echo_voice import DIRECTIVE, WORD, EchoInputs, Script, Voice, contexts_of, format_of, merge, texts_of
from handlers.output import AnswerReader
from openai_compat.errors import APIError, ContextLengthExceeded, InvalidRequest, ModelUnavailable

RawT = TypeVar("RawT")
_SLICE = 0.02
_DIMENSIONS = 16
_SIDE = 1024
_FRAME_RATE = 4.0
_MOST_FRAMES = 256


class EchoHandler(BaseHandler):
    """Every verb, no model."""

    modes = {  # noqa: RUF012 -- declared as ClassVar by the base
        "auto": t.Mode(description="Chooses chat, complete or multimodal by what the request holds."),
        "chat": t.Mode(description="Repeats the last user text.", requires="messages"),
        "complete": t.Mode(description="Repeats the prompt."),
        "multimodal": t.Mode(description="Names the pictures and sounds it was given.", requires="messages"),
        "image": t.Mode(description="Answers a chat with a picture in the text's colour.", output="image"),
        "shout": t.Mode(
            description="Repeats the text between exclamation marks.",
            system_prompt="You shout in {language}.",
            template="!{input}!",
            variables={"language": "English"},
            temperature=2.0,
            requires="text",
        ),
    }

    def load_model(self, report: t.LoadReport) -> None:
        report("script")
        self._default = self._merge(Script(), self.spec.options, refuse=ModelUnavailable)

    @classmethod
    def analyze(cls, spec: t.ModelSpec) -> t.Analysis:
        return t.Analysis(
            architecture="echo",
            parameters=0,
            dtype="float32",
            bytes_per_dtype={},
            load_bytes=1 << 20,
            context_length=spec.context_length,
            capabilities=tuple(verb for verb in t.VERBS if verb in cls.get_model_capabilities(spec)),
            modes=cls.get_supported_modes(spec),
            weight_format="none",
            has_chat_template=True,
        )

    @classmethod
    def validate_model_files(cls, spec: t.ModelSpec) -> tuple[str, ...]:
        return ()

    # ------------------------------------------------------------ pipeline

    def prepare_inputs(self, request: t.Request) -> EchoInputs:
        raw = texts_of(request)
        directives = dict(found for text in raw for found in DIRECTIVE.findall(text))
        script = self._merge(self._default, directives, refuse=InvalidRequest)
        counts = tuple(len(WORD.findall(text)) for text in contexts_of(request, raw))
        inputs = EchoInputs(texts=tuple(DIRECTIVE.sub("", text).strip() for text in raw), counts=counts, script=script)
        self._check_length(inputs, request)
        return inputs

    def get_generation_config(self, request: t.Request) -> t.Sampling:
        return request.sampling if isinstance(request, t.TextRequest) else t.Sampling()

    def postprocess_outputs(self, raw: RawT, request: t.Request) -> RawT:
        return raw

    # ------------------------------------------------------------ verbs

    def generate_text(self, request: t.TextRequest, ctx: t.RunContext) -> t.TextResult:
        inputs = self.prepare_inputs(request)
        sampling = self.get_generation_config(request)
        voices = [Voice(i, inputs, request, sampling) for i in range(len(inputs.texts) * sampling.n)]
        reader = AnswerReader(format_of(inputs.script), request)
        try:
            for delta in self._speak(voices, inputs.script, ctx):
                self._show(reader.feed(delta), request, ctx)
        except APIError:
            ctx.spend(_spoken(inputs, voices, reader))
            raise
        choices = []
        for voice in voices:
            rest, choice = reader.finish(voice.choice())
            self._show(rest, request, ctx)
            choices.append(choice)
        raw = t.TextResult(choices=tuple(choices), usage=_spoken(inputs, voices, reader))
        return self.postprocess_outputs(raw, request)

    def process_multimodal(self, request: t.TextRequest, ctx: t.RunContext) -> t.TextResult:
        return self.generate_text(request, ctx)

    def generate_image(self, request: t.ImageRequest, ctx: t.RunContext) -> t.PictureResult:
        inputs = self.prepare_inputs(request)
        picture = plain(*_size(request.width, request.height), color_of(inputs.texts[0]))
        for number in range(request.partial_images if request.stream else 0):
            self._wait(inputs.script, ctx)
            ctx.emit(self.postprocess_outputs(t.PictureDelta(index=0, picture=picture, partial=number), request))
        self._wait(inputs.script, ctx)
        return self.postprocess_outputs(t.PictureResult(pictures=(picture,) * request.n, usage=_usage(inputs)), request)

    def generate_audio(self, request: t.SpeechRequest, ctx: t.RunContext) -> t.SoundResult:
        inputs = self.prepare_inputs(request)
        seconds = min(60.0, request.seconds or max(1, sum(inputs.counts)) * 0.05 / request.speed)
        pcm = tone(seconds, hertz=200 + color_of(inputs.texts[0])[0])
        for start in range(0, len(pcm), 4096):
            self._wait(inputs.script, ctx)
            piece = t.Sound(pcm=pcm[start : start + 4096], rate=SAMPLE_RATE)
            ctx.emit(self.postprocess_outputs(t.SoundDelta(sound=piece), request))
        return self.postprocess_outputs(t.SoundResult(seconds=seconds, usage=_usage(inputs)), request)

    def generate_video(self, request: t.VideoRequest, ctx: t.RunContext) -> t.VideoResult:
        inputs = self.prepare_inputs(request)
        rate = request.rate or _FRAME_RATE
        frames = max(1, min(_MOST_FRAMES, request.frames or round((request.seconds or 1.0) * rate)))
        width, height = _size(request.width, request.height)
        for number in range(frames):
            self._wait(inputs.script, ctx)
            picture = plain(width, height, color_of(f"{inputs.texts[0]}{number}"))
            ctx.emit(self.postprocess_outputs(t.FrameDelta(picture=picture), request))
            ctx.emit(self.postprocess_outputs(t.ProgressDelta(done=number + 1, total=frames), request))
        return self.postprocess_outputs(t.VideoResult(frames=frames, rate=rate, usage=_usage(inputs)), request)

    def process_image(self, request: t.ImageTaskRequest, ctx: t.RunContext) -> t.LabelResult:
        inputs = self.prepare_inputs(request)
        self._wait(inputs.script, ctx)
        names = request.labels or inputs.texts
        labels = tuple(t.Label(label=name, score=1 / (i + 1), box=(0.0, 0.0, 1.0, 1.0)) for i, name in enumerate(names))
        return self.postprocess_outputs(t.LabelResult(labels=labels), request)

    def process_audio(self, request: t.AudioTaskRequest, ctx: t.RunContext) -> t.TranscriptResult | t.LabelResult:
        inputs = self.prepare_inputs(request)
        if request.task == "classify":
            self._wait(inputs.script, ctx)
            return self.postprocess_outputs(t.LabelResult(labels=(t.Label(label=inputs.texts[0], score=1.0),)), request)
        voice = Voice(0, inputs, request, self.get_generation_config(request))
        for delta in self._speak([voice], inputs.script, ctx):
            ctx.emit(self.postprocess_outputs(delta, request))
        text, seconds = voice.choice().text, request.audio.seconds
        segment = t.Segment(start=0.0, end=seconds, text=text)
        raw = t.TranscriptResult(text=text, language=request.language or "en", duration=seconds, segments=(segment,))
        return self.postprocess_outputs(raw, request)

    def embed_text(self, request: t.EmbedRequest, ctx: t.RunContext) -> t.EmbedResult:
        return self._embed(request, ctx)

    def embed_image(self, request: t.EmbedRequest, ctx: t.RunContext) -> t.EmbedResult:
        return self._embed(request, ctx)

    def embed_multimodal(self, request: t.EmbedRequest, ctx: t.RunContext) -> t.EmbedResult:
        return self._embed(request, ctx)

    def rank_text(self, request: t.RankRequest, ctx: t.RunContext) -> t.RankResult:
        """The share of the query's words that a document has."""
        inputs = self.prepare_inputs(request)
        self._wait(inputs.script, ctx)
        wanted, *documents = (set(text.lower().split()) for text in inputs.texts)
        scores = tuple(len(wanted & words) / max(1, len(wanted)) for words in documents)
        return self.postprocess_outputs(t.RankResult(scores=scores, usage=_usage(inputs)), request)

    def classify_text(self, request: t.ClassifyRequest, ctx: t.RunContext) -> t.ClassifyResult:
        """A text is in the categories that it names."""
        inputs = self.prepare_inputs(request)
        self._wait(inputs.script, ctx)
        raw = t.ClassifyResult(verdicts=tuple(map(_verdict, inputs.texts)), usage=_usage(inputs))
        return self.postprocess_outputs(raw, request)

    def tokenize_text(self, request: t.TokenRequest, ctx: t.RunContext) -> t.TokenResult:
        """A token is a word, its number made from its letters; so no text can be had back, only the numbers in words."""
        ctx.check()
        inputs = self.prepare_inputs(request)
        pieces = tuple(WORD.findall(inputs.texts[0]))
        pieces += ("",) * (inputs.counts[0] - len(pieces))  # a prompt's directives count, and say nothing
        ids = tuple(zlib.crc32(piece.strip().encode(errors="replace")) >> 1 for piece in pieces)
        raw = t.TokenResult(
            ids=ids, text=inputs.texts[0], pieces=pieces if request.spelled else None, context_length=self.spec.context_length
        )
        return self.postprocess_outputs(raw, request)

    # ------------------------------------------------------------ the "model"

    def _speak(self, voices: list[Voice], script: Script, ctx: t.RunContext) -> Iterator[t.TextDelta]:
        """One token of each voice a step, as a batch would."""
        self._pause(script.first_delay, ctx)
        step = 0
        while not all(voice.finished for voice in voices):
            self._pause(script.delay, ctx)
            if script.fail_after is not None and step >= script.fail_after:
                raise APIError("The script told this model to fail.", code="scripted_failure")
            for delta in [voice.step() for voice in voices if not voice.finished]:
                if delta is not None:
                    yield delta
            step += 1

    def _show(self, deltas: Sequence[Any], request: t.Request, ctx: t.RunContext) -> None:
        for delta in deltas:
            ctx.emit(self.postprocess_outputs(delta, request))

    def _embed(self, request: t.EmbedRequest, ctx: t.RunContext) -> t.EmbedResult:
        inputs = self.prepare_inputs(request)
        self._wait(inputs.script, ctx)
        vectors = tuple(_vector(text, request.dimensions or _DIMENSIONS) for text in inputs.texts)
        return self.postprocess_outputs(t.EmbedResult(vectors=vectors, usage=_usage(inputs)), request)

    def _wait(self, script: Script, ctx: t.RunContext) -> None:
        self._pause(script.delay, ctx)
        if script.fail_after is not None:
            raise APIError("The script told this model to fail.", code="scripted_failure")

    @staticmethod
    def _pause(seconds: float, ctx: t.RunContext) -> None:
        ctx.check()
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
            ctx.check()

    def _check_length(self, inputs: EchoInputs, request: t.Request) -> None:
        limit = self.spec.context_length
        if limit is None or not isinstance(request, t.TextRequest):
            return
        asked = request.sampling.max_tokens
        longest = max(inputs.counts)
        if longest + (1 if asked is None else asked) > limit:
            raise ContextLengthExceeded(
                prompt_tokens=longest, max_tokens=asked or 0, context_length=limit, param=request.prompt_param
            )

    def _merge(self, script: Script, changes: dict[str, Any], *, refuse: Callable[[str], Exception]) -> Script:
        try:
            return merge(script, changes)
        except ValueError as error:
            raise refuse(f"The script cannot be followed: {error}.") from error


def _size(width: int | None, height: int | None) -> tuple[int, int]:
    """Pixels, at most 1024 a side."""
    return max(1, min(_SIDE, width or 64)), max(1, min(_SIDE, height or 64))


def _verdict(text: str) -> t.Verdict:
    words = set(text.lower().split())
    scores: dict[t.Category, float] = {category: float(category in words) for category in t.CATEGORIES}
    flagged = frozenset(category for category, score in scores.items() if score)
    return t.Verdict(labels={str(name): score for name, score in scores.items()}, scores=scores, flagged=flagged)


def _vector(text: str, dimensions: int) -> bytes:
    """A unit vector of float32; equal texts have equal ones."""
    data = hashlib.shake_256(text.encode()).digest(dimensions)
    values = [byte - 127.5 for byte in data]
    norm = math.sqrt(sum(value * value for value in values))
    return struct.pack(f"<{dimensions}f", *(value / norm for value in values))


def _spoken(inputs: EchoInputs, voices: list[Voice], reader: AnswerReader) -> t.Usage:
    return t.Usage(
        prompt_tokens=sum(inputs.counts),
        completion_tokens=sum(voice.spoken for voice in voices),
        reasoning_tokens=sum(reader.reasoning_tokens(voice.index, voice.sizes) for voice in voices),
    )


def _usage(inputs: EchoInputs) -> t.Usage:
    return t.Usage(prompt_tokens=sum(inputs.counts))
