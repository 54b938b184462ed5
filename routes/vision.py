"""What is in a picture, where, which pixels belong to it, and how far away everything is: endpoints of our own."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, TypeVar

from litestar import Controller, Request, Response, post
from litestar.di import NamedDependency
from msgspec import Struct

from openai_compat.errors import InvalidRequest
from openai_compat.http.disconnect import answer
from openai_compat.http.endpoint import Endpoint
from openai_compat.http.form import Form
from openai_compat.http.openapi import documented
from openai_compat.media.decoder import MediaDecoder
from openai_compat.protocol import RelayFacts
from openai_compat.translate import vision
from openai_compat.translate.attachments import Attachment, picture_at, picture_file
from openai_compat.worker.runner import Runner
from routes.files import decoded
from routes.forms import FILE, check_once, missing_file, read_whole_form, takes_form
from schemas.decode import decode
from schemas.form import decode_form
from schemas.vision import (
    ClassifyRequest,
    DepthAnswer,
    DepthRequest,
    DetectRequest,
    Findings,
    JsonClassifyRequest,
    JsonDepthRequest,
    JsonDetectRequest,
    JsonSegmentRequest,
    SegmentRequest,
)

BodyT = TypeVar("BodyT", ClassifyRequest, DetectRequest, SegmentRequest, DepthRequest)
_FILES = (vision.IMAGE, FILE)


def form_of(form: Form, *, type: type[BodyT]) -> BodyT:
    """The fields of a form that holds a picture, for the gateway too, which keeps no files. Raises ``InvalidRequest``."""
    wire = decode_form(form, type)
    names = [name for name in _FILES if name in form.files]
    if wire.image is None and not names:
        raise missing_file(vision.IMAGE)
    check_once([vision.IMAGE for _ in names], () if wire.image is None else (vision.IMAGE,))
    if len(names) > 1:
        raise InvalidRequest("The form holds 'image' and 'file'; one picture is expected.", param=FILE)
    for name in names:
        form.file(name)
    return wire


def _endpoint(json: type[Struct], form: type[BodyT]) -> Endpoint:
    return Endpoint(request=json, plan=vision.plan, form=partial(form_of, type=form), remote=vision.remote)


class VisionController(Controller):
    path = "/v1/vision"
    tags = ("Vision",)

    @post(
        "/classify",
        status_code=200,
        opt={"endpoint": _endpoint(JsonClassifyRequest, ClassifyRequest)},
        operation_class=documented(ClassifyRequest, Findings, files=(vision.IMAGE,)),
    )
    async def classify(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Say what a picture shows, by the model's own labels or by the request's."""
        wire, file = await _read(request, ClassifyRequest, JsonClassifyRequest)
        return await _answer(request, wire, file, runner, facts, media)

    @post(
        "/detect",
        status_code=200,
        opt={"endpoint": _endpoint(JsonDetectRequest, DetectRequest)},
        operation_class=documented(DetectRequest, Findings, files=(vision.IMAGE,)),
    )
    async def detect(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Find things in a picture, and the boxes around them."""
        wire, file = await _read(request, DetectRequest, JsonDetectRequest)
        return await _answer(request, wire, file, runner, facts, media)

    @post(
        "/segment",
        status_code=200,
        opt={"endpoint": _endpoint(JsonSegmentRequest, SegmentRequest)},
        operation_class=documented(SegmentRequest, Findings, files=(vision.IMAGE,)),
    )
    async def segment(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Find things in a picture, and the pixels that belong to them."""
        wire, file = await _read(request, SegmentRequest, JsonSegmentRequest)
        return await _answer(request, wire, file, runner, facts, media)

    @post(
        "/depth",
        status_code=200,
        opt={"endpoint": _endpoint(JsonDepthRequest, DepthRequest)},
        operation_class=documented(DepthRequest, DepthAnswer, files=(vision.IMAGE,)),
    )
    async def depth(
        self,
        request: Request[Any, Any, Any],
        runner: NamedDependency[Runner],
        facts: NamedDependency[RelayFacts],
        media: NamedDependency[MediaDecoder],
    ) -> Response[Any]:
        """Estimate how far away each pixel of a picture is."""
        wire, file = await _read(request, DepthRequest, JsonDepthRequest)
        return await _answer(request, wire, file, runner, facts, media)


async def _read(request: Request[Any, Any, Any], form: type[BodyT], json: type[BodyT]) -> tuple[BodyT, Attachment]:
    """The fields, and the picture as it came: a form's file, or inside the fields."""
    if not takes_form(request):
        wire = decode(await request.body(), json)
        return wire, _inside(wire)
    whole = await read_whole_form(request)
    wire = form_of(whole, type=form)
    name = next((name for name in _FILES if name in whole.files), None)
    return wire, _inside(wire) if name is None else picture_file(whole.file(name).data, name)


def _inside(wire: vision.VisionBody) -> Attachment:
    if wire.image is None:
        raise missing_file(vision.IMAGE)
    return vision.attachment(wire.image)


async def _answer(
    request: Request[Any, Any, Any],
    wire: vision.VisionBody,
    file: Attachment,
    runner: Runner,
    facts: RelayFacts,
    media: MediaDecoder,
) -> Response[Any]:
    picture = picture_at(await decoded(request, (file,), media, runner, facts), file.param)
    domain = vision.to_request(wire, picture, facts)
    job = runner.submit("process_image", domain, request_id=facts.request_id, deadline=facts.deadline)
    result: Any = await answer(request, job)
    found: Struct = await asyncio.to_thread(vision.to_response, result, wire, picture, facts.public_model)
    return Response(found)
