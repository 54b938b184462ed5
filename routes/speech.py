"""Text to speech, and music and sound."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from handlers.types import Delta, SoundDelta, SoundResult, SpeechRequest
from openai_compat.http.binary import ByteStream
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming, sse
from openai_compat.media.encode import Encoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import speech
from openai_compat.worker.runner import Runner
from routes.answering import Submit
from routes.apart import apart
from schemas.decode import decode
from schemas.speech import CreateSoundRequest, CreateSpeechRequest, SoundFormat, SpeechEvent


class SpeechController(Controller):
    path = "/v1/audio"
    tags = ("Audio",)

    @post(
        "/speech",
        status_code=200,
        opt={"endpoint": Endpoint(request=CreateSpeechRequest, plan=speech.plan_speech)},
        operation_class=documented(CreateSpeechRequest, None, events=SpeechEvent, media=speech.MEDIA_TYPES.values()),
    )
    async def speak(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
    ) -> Response[Any]:
        """Speak a text: a sound file, sent as it is made, or its pieces as events."""
        wire = decode(body, CreateSpeechRequest)
        return await _answer(wire, _submit(runner, speech.to_speech(wire, facts), facts), timing)

    @post(
        "/generations",
        status_code=200,
        opt={"endpoint": Endpoint(request=CreateSoundRequest, plan=speech.plan_sound)},
        operation_class=documented(CreateSoundRequest, None, events=SpeechEvent, media=speech.MEDIA_TYPES.values()),
    )
    async def generate(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
    ) -> Response[Any]:
        """Make music or sound from a description."""
        wire = decode(body, CreateSoundRequest)
        return await _answer(wire, _submit(runner, speech.to_sound(wire, facts), facts), timing)


def _submit(runner: Runner, request: SpeechRequest, facts: RelayFacts) -> Submit:
    return partial(runner.submit, "generate_audio", request, request_id=facts.request_id, deadline=facts.deadline)


async def _answer(wire: CreateSpeechRequest | CreateSoundRequest, submit: Submit, timing: StreamTiming) -> Response[Any]:
    format = speech.format_of(wire)
    if wire.stream_format == "sse":
        return await sse(_events(submit, format), timing=timing)
    return ByteStream(_file(submit, format), speech.MEDIA_TYPES[format])


async def _file(submit: Submit, format: SoundFormat) -> AsyncGenerator[bytes, None]:
    async with aclosing(_encoded(submit, format)) as pieces:
        async for data, _ in pieces:
            if data:
                yield data


async def _events(submit: Submit, format: SoundFormat) -> AsyncGenerator[bytes, None]:
    async with aclosing(_encoded(submit, format)) as pieces:
        async for data, result in pieces:
            if data:
                yield speech.delta_event(data)
            if result is not None:
                yield speech.done_event(result)


async def _encoded(submit: Submit, format: SoundFormat) -> AsyncGenerator[tuple[bytes, SoundResult | None], None]:
    """The file's bytes as they come, and the result with the last of them."""
    job = submit()
    encoder: Encoder | None = None
    try:
        async for batch in job.batches():
            if encoder is None:
                encoder = await apart(_encoder_for, batch, format)
            yield await apart(_feed, encoder, batch), None
        result: Any = await job.result()
        yield (b"" if encoder is None else await apart(encoder.finish)), result
    finally:
        job.cancel()
        if encoder is not None:
            encoder.close()


def _encoder_for(batch: list[Delta], format: SoundFormat) -> Encoder | None:
    """Made for the rate and the channels of the first piece."""
    sound = next((delta.sound for delta in batch if isinstance(delta, SoundDelta)), None)
    return None if sound is None else Encoder(format, sound.rate, sound.channels)


def _feed(encoder: Encoder | None, batch: list[Delta]) -> bytes:
    if encoder is None:
        return b""
    return b"".join(encoder.feed(delta.sound.pcm) for delta in batch if isinstance(delta, SoundDelta))
