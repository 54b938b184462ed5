"""Pictures from texts, edits of pictures, and variations of them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any, TypeVar

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from handlers.types import ImageRequest, Picture, PictureDelta
from openai_compat.http.disconnect import answer
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.form import Form, Upload
from openai_compat.http.openapi import documented
from openai_compat.http.sse import StreamTiming, sse
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import images
from openai_compat.translate.attachments import Attachment, picture_file
from openai_compat.worker.runner import Runner
from routes.answering import Submit
from routes.files import decoded
from routes.forms import check_once, missing_file, read_whole_form, takes_form
from routes.pictures import encoded, progress_of
from schemas.decode import decode
from schemas.form import decode_form
from schemas.images import (
    ImageEditRequest,
    ImageGenerationRequest,
    ImageVariationRequest,
    JsonImageEditRequest,
    JsonImageVariationRequest,
    PictureEvent,
    Pictures,
)

BodyT = TypeVar("BodyT", ImageEditRequest, ImageVariationRequest)
IMAGE = "image"


def edit_form(form: Form) -> ImageEditRequest:
    """The fields of a form whose files are those of an edit. Raises ``InvalidRequest`` naming the field at fault."""
    return _checked(form, ImageEditRequest)


def variation_form(form: Form) -> ImageVariationRequest:
    return _checked(form, ImageVariationRequest)


class ImageController(Controller):
    path = "/v1/images"
    tags = ("Images",)

    @post(
        "/generations",
        status_code=200,
        opt={"endpoint": Endpoint(request=ImageGenerationRequest, plan=images.plan, links=images.wants_links)},
        operation_class=documented(ImageGenerationRequest, Pictures, events=PictureEvent),
    )
    async def generate(
        self,
        request: Request[Any, Any, Any],
        body: RawBody,
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
    ) -> Response[Any]:
        """Make pictures of a text, whole or with partial pictures on the way."""
        wire = decode(body, ImageGenerationRequest)
        return await _painted(request, wire, _submit(runner, images.to_generation(wire, facts), facts), timing)

    @post(
        "/edits",
        status_code=200,
        opt={
            "endpoint": Endpoint(
                request=JsonImageEditRequest,
                plan=images.plan,
                form=edit_form,
                links=images.wants_links,
                remote=images.remote,
            ),
        },
        operation_class=documented(ImageEditRequest, Pictures, events=PictureEvent, files=(IMAGE,)),
    )
    async def edit(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        timing: NamedDependency[StreamTiming],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Change a picture as a text says, all of it or where a mask is transparent."""
        wire, files = await _read(request, ImageEditRequest, JsonImageEditRequest)
        found = await decoded(request, files, media, runner, facts)
        domain = images.to_edit(wire, facts, files, found)
        return await _painted(request, wire, _submit(runner, domain, facts), timing)

    @post(
        "/variations",
        status_code=200,
        opt={
            "endpoint": Endpoint(
                request=JsonImageVariationRequest,
                plan=images.plan,
                form=variation_form,
                links=images.wants_links,
                remote=images.remote,
            ),
        },
        operation_class=documented(ImageVariationRequest, Pictures, files=(IMAGE,)),
    )
    async def vary(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Make pictures that resemble one."""
        wire, files = await _read(request, ImageVariationRequest, JsonImageVariationRequest)
        found = await decoded(request, files, media, runner, facts)
        return await _whole(request, wire, _submit(runner, images.to_variation(wire, facts, files, found), facts))


# ---------------------------------------------------------------- what comes in


async def _read(request: Request[Any, Any, Any], form: type[BodyT], json: type[BodyT]) -> tuple[BodyT, tuple[Attachment, ...]]:
    """The fields, and the pictures and the mask as they came: files of a form, or inside a JSON body."""
    if not takes_form(request):
        wire = decode(await request.body(), json)
        return wire, images.attachments_of(wire)
    whole = await read_whole_form(request)
    wire = _checked(whole, form)
    files = tuple(picture_file(upload.data, param, alpha=True) for param, upload in _files_of(whole))
    return wire, files + images.attachments_of(wire)


def _checked(form: Form, type: type[BodyT]) -> BodyT:
    """For the gateway too, which keeps no files: their bytes are not looked at."""
    files = [param for param, _ in _files_of(form)]
    wire = decode_form(form, type)
    fields = [field.param for field in images.attachments_of(wire)]
    check_once(files, fields)
    pictures = [param for param in files + fields if not param.startswith(images.MASK)]
    if not pictures:
        raise missing_file(IMAGE)
    images.check_count(len(pictures))
    if type is ImageVariationRequest:
        images.check_variation(files)
    return wire


def _files_of(form: Form) -> list[tuple[str, Upload]]:
    """By the names that errors call them. Raises ``InvalidRequest`` for empty ones, for several masks, and for a markup."""
    if "markup" in form.files:
        raise images.markup_refused()
    pictures = form.files.get(IMAGE, []) + form.files.get("images", [])
    named = [(IMAGE if len(pictures) == 1 else f"{IMAGE}[{i}]", picture) for i, picture in enumerate(pictures)]
    empty = next((param for param, picture in named if not picture.size), None)
    if empty is not None:
        raise missing_file(empty)
    return [*named, (images.MASK, form.file(images.MASK))] if images.MASK in form.files else named


# ---------------------------------------------------------------- what goes out


def _submit(runner: Runner, request: ImageRequest, facts: RelayFacts) -> Submit:
    return partial(runner.submit, "generate_image", request, request_id=facts.request_id, deadline=facts.deadline)


async def _painted(
    request: Request[Any, Any, Any], wire: images.Painting, submit: Submit, timing: StreamTiming
) -> Response[Any]:
    if wire.stream:
        return await sse(_events(wire, submit), timing=timing)
    return await _whole(request, wire, submit)


async def _whole(request: Request[Any, Any, Any], wire: images.PictureBody, submit: Submit) -> Response[Any]:
    result: Any = await answer(request, submit())
    files = [await _encoded(picture, wire) for picture in result.pictures]
    return Response(images.to_response(result, files, wire, created=int(time.time())))


async def _events(wire: images.Painting, submit: Submit) -> AsyncGenerator[bytes, None]:
    events = images.PictureEvents(wire, created=int(time.time()))
    job = submit()
    try:
        async for batch in job.batches():
            if line := progress_of(batch):
                yield line
            for delta in batch:
                if isinstance(delta, PictureDelta):
                    yield events.partial(delta, await _encoded(delta.picture, wire))
        result: Any = await job.result()
        for index, picture in enumerate(result.pictures):
            yield events.completed(result, index, await _encoded(picture, wire))
    finally:
        job.cancel()


async def _encoded(picture: Picture, wire: images.PictureBody) -> bytes:
    return await encoded(picture, images.format_of(wire), images.compression_of(wire))
