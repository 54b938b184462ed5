"""`/v1/audio/transcriptions`, `/translations` and `/classifications`: wire ⇄ domain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from handlers.types import (
    AudioTaskRequest,
    Delta,
    LabelResult,
    Segment,
    SegmentDelta,
    Sound,
    TextDelta,
    TranscriptResult,
    Verb,
    VoiceActivity,
)
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.attachments import Attachment, first_remote, to_recording
from openai_compat.translate.common import Facts
from openai_compat.translate.languages import code_of, name_of
from openai_compat.translate.subtitles import to_srt, to_vtt
from schemas.messages import InputAudio
from schemas.transcriptions import (
    Classification,
    ClassificationRequest,
    DurationUsage,
    Granularity,
    InputTokenDetails,
    ServerVad,
    SoundLabel,
    TokenUsage,
    TranscriptDelta,
    TranscriptDone,
    Transcription,
    TranscriptionRequest,
    TranscriptionSegment,
    TranscriptionWord,
    TranscriptSegment,
    TranslationRequest,
    VerboseTranscription,
)

TextBody: TypeAlias = TranscriptionRequest | TranslationRequest
PLAIN_TEXT = "text/plain"
RECORDING = "input_audio.data"
_STREAMED = ("json", "text", "verbose_json")
_encode = msgspec.json.Encoder().encode


# ---------------------------------------------------------------- request


def plan(body: TextBody | ClassificationRequest) -> Verb:
    """Make every check that needs no model. Raises ``InvalidRequest`` naming the field; returns the verb."""
    if isinstance(body, TranscriptionRequest):
        _check_transcription(body)
    if not isinstance(body, ClassificationRequest):
        _check_stream(body)
    if body.input_audio is not None:
        recording(body.input_audio)
    return "process_audio"


def recording(audio: InputAudio) -> Attachment:
    """The file in a JSON body. Raises ``InvalidRequest``."""
    return to_recording(audio, RECORDING)


def remote(body: TextBody | ClassificationRequest) -> str | None:
    """The field that has the recording on another server."""
    return None if body.input_audio is None else first_remote([(RECORDING, body.input_audio.data)])


def to_request(body: TextBody, sound: Sound, facts: Facts) -> AudioTaskRequest:
    """Raises what ``plan`` raises. The request's own mode wins over the one in the model's name."""
    plan(body)
    request = AudioTaskRequest(
        audio=sound,
        task=_task(body),
        language=code_of(body.language) if body.language else None,
        prompt=body.prompt or None,
        temperature=body.temperature,
        timestamps=_timestamps(body),
        mode=body.mode or facts.mode,
        stream=bool(body.stream),
    )
    if isinstance(body, TranslationRequest):
        return request
    return replace(
        request,
        languages=tuple(code_of(language) for language in body.languages or ()),
        keywords=tuple(body.keywords or ()),
        voice_activity=_voice_activity(body.chunking_strategy),
    )


def to_classify(body: ClassificationRequest, sound: Sound, facts: Facts) -> AudioTaskRequest:
    return AudioTaskRequest(audio=sound, task="classify", top_k=body.top_k, mode=body.mode or facts.mode)


def _check_transcription(body: TranscriptionRequest) -> None:
    refused = {
        "include": (bool(body.include), "Log probabilities of transcripts are not given."),
        "known_speaker_names": (bool(body.known_speaker_names), "Speakers are not told apart."),
        "known_speaker_references": (bool(body.known_speaker_references), "Speakers are not told apart."),
        "response_format": (body.response_format == "diarized_json", "Speakers are not told apart, so no 'diarized_json'."),
    }
    for param, (applies, reason) in refused.items():
        if applies:
            raise UnsupportedParameter(f"Unsupported parameter: '{param}'. {reason}", param=param)
    if "word" in (body.timestamp_granularities or ()) and body.response_format != "verbose_json":
        raise InvalidRequest("Times of words need the response_format 'verbose_json'.", param="timestamp_granularities")


def _check_stream(body: TextBody) -> None:
    if body.stream and (body.response_format or "json") not in _STREAMED:
        raise InvalidRequest(f"A stream holds events, not the response_format '{body.response_format}'.", param="stream")


def _granularities(body: TextBody) -> tuple[Granularity, ...]:
    """Segments, unless the client names something else."""
    return tuple(getattr(body, "timestamp_granularities", None) or ("segment",))


def _timestamps(body: TextBody) -> tuple[Granularity, ...]:
    needed = body.response_format in ("verbose_json", "srt", "vtt")
    return tuple(dict.fromkeys(_granularities(body))) if needed else ()


def _voice_activity(strategy: str | ServerVad | None) -> VoiceActivity | None:
    if isinstance(strategy, ServerVad):
        return VoiceActivity(
            threshold=strategy.threshold,
            silence_ms=strategy.silence_duration_ms,
            padding_ms=strategy.prefix_padding_ms,
        )
    return VoiceActivity() if strategy == "auto" else None


# ---------------------------------------------------------------- answer


def to_response(result: TranscriptResult, body: TextBody) -> Struct | str:
    """A Struct for the JSON formats, else the text itself."""
    form = body.response_format or "json"
    if form == "text":
        return result.text + "\n"
    if form in ("srt", "vtt"):
        return to_srt(result.segments) if form == "srt" else to_vtt(result.segments)
    usage = DurationUsage(seconds=result.duration)
    if form == "json":
        return Transcription(text=result.text, usage=usage)
    wanted = _granularities(body)
    return VerboseTranscription(
        task=_task(body),
        language=_language(result, body),
        duration=result.duration,
        text=result.text,
        segments=[_segment(i, segment) for i, segment in enumerate(result.segments)] if "segment" in wanted else UNSET,
        words=_words(result) if "word" in wanted else UNSET,
        usage=usage,
    )


def to_classification(result: LabelResult, *, model: str, seconds: float) -> Classification:
    found = [SoundLabel(label=label.label, score=label.score) for label in result.labels]
    return Classification(model=model, data=found, usage=DurationUsage(seconds=seconds))


class TranscriptStream:
    """Makes the events of one transcript; the state is how many segments were sent."""

    def __init__(self, body: TextBody) -> None:
        self._body = body
        self._verbose = body.response_format == "verbose_json"
        asked = getattr(body, "timestamp_granularities", None) or ()
        self._segments = "segment" in asked or (self._verbose and not asked)
        self._sent = 0

    def deltas(self, batch: Iterable[Delta]) -> bytes:
        return b"".join(self._event(delta) for delta in batch)

    def finish(self, result: TranscriptResult) -> bytes:
        usage = result.usage
        done = TranscriptDone(
            text=result.text,
            usage=TokenUsage(
                input_tokens=usage.prompt_tokens,
                output_tokens=usage.completion_tokens,
                total_tokens=usage.prompt_tokens + usage.completion_tokens,
                input_token_details=InputTokenDetails(audio_tokens=usage.prompt_tokens),
            ),
            language=_language(result, self._body) if self._verbose else UNSET,
            duration=result.duration if self._verbose else UNSET,
            words=_words(result) if self._verbose and "word" in _granularities(self._body) else UNSET,
        )
        return _framed(done)

    def _event(self, delta: Delta) -> bytes:
        if isinstance(delta, TextDelta):
            return _framed(TranscriptDelta(delta=delta.text))
        if not isinstance(delta, SegmentDelta) or not self._segments:
            return b""
        found = delta.segment
        event = TranscriptSegment(id=f"seg_{self._sent}", start=found.start, end=found.end, text=found.text)
        self._sent += 1
        return _framed(event)


def _framed(event: Struct) -> bytes:
    return b"data: " + _encode(event) + b"\n\n"


def _task(body: TextBody) -> Literal["transcribe", "translate"]:
    return "translate" if isinstance(body, TranslationRequest) else "transcribe"


def _language(result: TranscriptResult, body: TextBody) -> str:
    """A translation is English, whatever was spoken; a model that cannot tell leaves it to the client."""
    if isinstance(body, TranslationRequest):
        return name_of("en")
    return name_of(result.language or (code_of(body.language) if body.language else ""))


def _segment(number: int, segment: Segment) -> TranscriptionSegment:
    return TranscriptionSegment(
        id=number,
        seek=segment.seek,
        start=segment.start,
        end=segment.end,
        text=segment.text,
        tokens=list(segment.tokens),
        temperature=segment.temperature,
        avg_logprob=segment.avg_logprob,
        compression_ratio=segment.compression_ratio,
        no_speech_prob=segment.no_speech_prob,
    )


def _words(result: TranscriptResult) -> list[TranscriptionWord]:
    return [
        TranscriptionWord(word=word.text.strip(), start=word.start, end=word.end)
        for segment in result.segments
        for word in segment.words
    ]
