"""Speech to text, in its own language or in English, and what else a recording holds."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from msgspec import Struct

from handlers.types import AudioTaskRequest, Sound
from openai_compat.http.disconnect import answer
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import transcriptions
from openai_compat.translate.attachments import Attachment, sound_at
from openai_compat.worker.runner import Runner
from routes.answering import Submit, streamed
from routes.files import decoded
from routes.forms import FILE, from_form, missing_file, read_form, takes_form
from schemas.decode import decode
from schemas.transcriptions import (
    Classification,
    ClassificationRequest,
    JsonClassificationRequest,
    JsonTranscriptionRequest,
    JsonTranslationRequest,
    TranscriptEvent,
    TranscriptionRequest,
    TranslationRequest,
    VerboseTranscription,
)

BodyT = TypeVar("BodyT", TranscriptionRequest, TranslationRequest, ClassificationRequest)


class TranscriptionController(Controller):
    path = "/v1/audio"
    tags = ("Audio",)

    @post(
        "/transcriptions",
        status_code=200,
        opt={
            "endpoint": Endpoint(
                request=JsonTranscriptionRequest,
                plan=transcriptions.plan,
                form=from_form(TranscriptionRequest),
                remote=transcriptions.remote,
            )
        },
        operation_class=documented(
            TranscriptionRequest, VerboseTranscription, events=TranscriptEvent, files=(FILE,), media=("text/plain",)
        ),
    )
    async def transcribe(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Write down what is said."""
        wire, sound = await _read(request, TranscriptionRequest, JsonTranscriptionRequest, runner, facts, media)
        return await _written(request, wire, _submit(runner, transcriptions.to_request(wire, sound, facts), facts), timing)

    @post(
        "/translations",
        status_code=200,
        opt={
            "endpoint": Endpoint(
                request=JsonTranslationRequest,
                plan=transcriptions.plan,
                form=from_form(TranslationRequest),
                remote=transcriptions.remote,
            )
        },
        operation_class=documented(
            TranslationRequest, VerboseTranscription, events=TranscriptEvent, files=(FILE,), media=("text/plain",)
        ),
    )
    async def translate(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Write down in English what is said in another language."""
        wire, sound = await _read(request, TranslationRequest, JsonTranslationRequest, runner, facts, media)
        return await _written(request, wire, _submit(runner, transcriptions.to_request(wire, sound, facts), facts), timing)

    @post(
        "/classifications",
        status_code=200,
        opt={
            "endpoint": Endpoint(
                request=JsonClassificationRequest,
                plan=transcriptions.plan,
                form=from_form(ClassificationRequest),
                remote=transcriptions.remote,
            )
        },
        operation_class=documented(ClassificationRequest, Classification, files=(FILE,)),
    )
    async def classify(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Say what a recording holds, by the labels that the model was trained on."""
        wire, sound = await _read(request, ClassificationRequest, JsonClassificationRequest, runner, facts, media)
        job = _submit(runner, transcriptions.to_classify(wire, sound, facts), facts)()
        found: Any = await answer(request, job)
        return Response(transcriptions.to_classification(found, model=facts.public_model, seconds=sound.seconds))


async def _read(
    request: Request[Any, Any, Any],
    form: type[BodyT],
    json: type[BodyT],
    runner: Runner,
    facts: RelayFacts,
    media: MediaDecoder,
) -> tuple[BodyT, Sound]:
    """The fields, and the recording as the model wants it: a form's file, or ``input_audio`` of a JSON body."""
    file: Attachment | None
    if takes_form(request):
        wire, upload = await read_form(request, form)
        file = Attachment(param=FILE, data=upload.data, kind="audio")
    else:
        wire = decode(await request.body(), json)
        file = None if wire.input_audio is None else transcriptions.recording(wire.input_audio)
    if file is None:
        raise missing_file(transcriptions.RECORDING)
    return wire, sound_at(await decoded(request, (file,), media, runner, facts), file.param)


def _submit(runner: Runner, request: AudioTaskRequest, facts: RelayFacts) -> Submit:
    return partial(runner.submit, "process_audio", request, request_id=facts.request_id, deadline=facts.deadline)


async def _written(
    request: Request[Any, Any, Any], wire: TranscriptionRequest | TranslationRequest, submit: Submit, timing: StreamTiming
) -> Response[Any]:
    if wire.stream:
        return await streamed(submit, transcriptions.TranscriptStream(wire), timing)
    result: Any = await answer(request, submit())
    found: Struct | str = transcriptions.to_response(result, wire)
    return Response(found, media_type=transcriptions.PLAIN_TEXT) if isinstance(found, str) else Response(found)
