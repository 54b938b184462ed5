"""Drawing: a request for pictures becomes calls of a pipeline, each for a batch, and every picture has a seed of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t
from handlers.painting.calls import COUNT, STEPS, Call, size_errors
from handlers.painting.families import PictureTask
from handlers.painting.pixels import pasted, resized
from handlers.painting.prompts import tokens_of
from handlers.painting.steps import Steps
from handlers.painting.studio import MOST_SEED, Studio, seed_of
from handlers.pixels import from_pil, to_pil
from handlers.speaking.torch_model import seeded
from openai_compat.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image

_ENLARGERS = ("Upscale", "SuperResolution")
_MOST_ENLARGED = 512
_BINNING = "use_resolution_binning"
_BINNED = (32, 64, 128, 256)


class Sketch(Struct, frozen=True):
    """What is drawn from: texts, and pictures in the size that the pipeline works in. ``tokens``: of the prompt."""

    prompt: str
    negative_prompt: str | None
    images: tuple[Any, ...]
    mask: Any
    tokens: int


class Settings(Struct, frozen=True):
    """How it is drawn; None leaves a setting to the pipeline."""

    task: PictureTask
    size: tuple[int, int]
    steps: int | None
    guidance: float | None
    strength: float | None
    seeds: tuple[int, ...]
    partials: int


class Glimpse(Struct, frozen=True):
    """A picture on the way."""

    index: int
    image: Any
    partial: int


class Drawn(Struct, frozen=True):
    """The library's pictures, and the tokens of the prompt."""

    images: tuple[Any, ...]
    tokens: int


class Painter:
    """Draws with one checkpoint."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    # ------------------------------------------------------------ a request

    def check(self, request: t.ImageRequest) -> None:
        """Raises ``InvalidRequest`` naming the field."""
        task = self._task(request)
        pipeline, call = self._studio.pipes.painter(task)
        if task != "generate" and not request.images:
            raise InvalidRequest("There is no picture to start from.", param="image")
        if call.pictures and len(request.images) > call.pictures and task != "generate":
            raise InvalidRequest(f"'{self._studio.id}' takes {call.pictures} of them at a time.", param="image")
        self._check_strength(request)
        if request.seed is not None and not 0 <= request.seed <= MOST_SEED - request.n:
            raise InvalidRequest("The seed is a whole number from 0 to 2^63.", param="seed")
        self._studio.check_words(pipeline, call, request)
        self._size(request, pipeline, call)

    def prepare(self, request: t.ImageRequest) -> Sketch:
        pipeline, call = self._studio.pipes.painter(self._task(request))
        size = self._size(request, pipeline, call)
        mask = None if request.mask is None else resized(to_pil(request.mask).convert("L"), size, sharp=True)
        images = tuple(resized(to_pil(picture).convert("RGB"), size) for picture in request.images)
        return Sketch(request.prompt, request.negative_prompt, images, mask, tokens_of(pipeline, call, request.prompt))

    def settings(self, request: t.ImageRequest) -> Settings:
        task, studio = self._task(request), self._studio
        pipeline, call = studio.pipes.painter(task)
        strength = self._strength(request, call)
        steps = studio.steps(call, request.steps, request.quality)
        if steps is not None and strength is not None:
            steps = max(steps, min(_least_steps(strength), studio.options.max_steps))
        first = seed_of(request.seed)
        seeds = tuple(first + number for number in range(request.n))
        guidance = studio.guidance(call, request.guidance)
        partials = request.partial_images if request.stream else 0
        return Settings(task, self._size(request, pipeline, call), steps, guidance, strength, seeds, partials)

    # ------------------------------------------------------------ drawing

    def draw(self, sketch: Sketch, settings: Settings, ctx: t.RunContext) -> Drawn:
        """Raises ``InvalidRequest`` where the model's own safety checker objects."""
        pipeline, call = self._studio.pipes.painter(settings.task)
        most = self._studio.options.max_batch if call.first(COUNT) and call.generators else 1
        seeds = settings.seeds
        batches = [seeds[start : start + most] for start in range(0, len(seeds), most)]
        images: list[Image] = []
        for number, batch in enumerate(batches):
            steps = Steps(pipeline, ctx, call=number, calls=len(batches))
            first = len(images)
            steps.show(settings.partials, settings.size, lambda partial, shown: _glimpses(ctx, first, partial, shown))  # noqa: B023 -- called in this round alone
            images += self._batch(pipeline, call, sketch, settings, batch, steps)
        return Drawn(tuple(self._finished(image, sketch) for image in images), sketch.tokens)

    def _batch(
        self, pipeline: Any, call: Call, sketch: Sketch, settings: Settings, seeds: tuple[int, ...], steps: Steps
    ) -> list[Image]:
        """What the pipeline draws from the global generator is this batch's alone too."""
        import torch

        arguments = _arguments(call, sketch, settings) | _labels(pipeline, call, sketch) | _binning(pipeline, call)
        generators = [torch.Generator(device="cpu").manual_seed(seed) for seed in seeds]
        if call.takes("generator"):
            arguments["generator"] = generators if call.generators else generators[0]
        if (count := call.first(COUNT)) is not None:
            arguments[count] = len(seeds)
        with (
            self._studio.placement.computing(),
            seeded(seeds[0], pipeline.device),
            steps.followed(call) as following,
            size_errors(settings.size),
        ):
            made = pipeline(**arguments, **following)
        flagged = sum(map(bool, getattr(made, "nsfw_content_detected", None) or ()))
        if flagged:
            message = f"The model's own safety checker objects to {flagged} of the pictures."
            raise InvalidRequest(message, param="prompt", code="content_policy_violation")
        return list(made.images)

    def _finished(self, image: Image, sketch: Sketch) -> Image:
        """Outside of a mask a picture stays what it was, to the pixel."""
        if sketch.mask is None or not self._studio.options.paste or image.size != sketch.mask.size:
            return image
        return pasted(image, sketch.images[0], sketch.mask)

    # ------------------------------------------------------------ choices

    def _task(self, request: t.ImageRequest) -> PictureTask:
        if request.task == "vary":
            return self._studio.pipes.varies()
        if request.task == "edit":
            return "edit" if request.mask is None else "inpaint"
        return "generate"

    def _strength(self, request: t.ImageRequest, call: Call) -> float | None:
        if not call.takes("strength"):
            return None
        usual = self._studio.options.vary_strength if request.task == "vary" else self._studio.options.strength
        return usual if request.strength is None else request.strength

    def _check_strength(self, request: t.ImageRequest) -> None:
        """The weaker an edit, the more steps it takes to be of a whole one."""
        most = self._studio.options.max_steps
        if request.strength is not None and not 1 <= request.strength * most <= most:
            raise InvalidRequest(f"The strength is at least {1 / most:.3g} and at most 1.", param="strength")

    def _size(self, request: t.ImageRequest, pipeline: Any, call: Call) -> tuple[int, int]:
        """An edit without a size has its picture's proportions; what enlarges keeps the picture as it is."""
        sizes = self._studio.sizes(pipeline, call)
        if self._task(request) == "generate" or not request.images:
            return sizes.checked(request.width, request.height)
        picture = request.images[0]
        if any(word in type(pipeline).__name__ for word in _ENLARGERS):
            return _enlarged(picture, request, sizes.multiple)
        if request.width is None and request.height is None:
            return sizes.near(picture)
        return sizes.checked(request.width, request.height)


def answer(raw: Any) -> t.PictureDelta | t.PictureResult | t.ProgressDelta:
    """The library's pictures as ours."""
    if isinstance(raw, Glimpse):
        return t.PictureDelta(index=raw.index, picture=from_pil(raw.image), partial=raw.partial)
    if isinstance(raw, Drawn):
        usage = t.Usage(prompt_tokens=raw.tokens)
        return t.PictureResult(pictures=tuple(from_pil(image) for image in raw.images), usage=usage)
    progress: t.ProgressDelta = raw
    return progress


def _least_steps(strength: float) -> int:
    """An edit takes its share of the steps, which pipelines round down, and needs one."""
    steps = math.ceil(1 / strength)
    return steps if int(steps * strength) else steps + 1


def _glimpses(ctx: t.RunContext, first: int, partial: int, images: list[Image]) -> None:
    for number, image in enumerate(images):
        ctx.emit(Glimpse(first + number, image, partial))  # type: ignore[arg-type]  # the handler makes a delta of it


def _enlarged(picture: t.Picture, request: t.ImageRequest, multiple: int) -> tuple[int, int]:
    if request.width is not None or request.height is not None:
        raise InvalidRequest("This model enlarges the picture it is given, by a factor of its own.", param="size")
    if max(picture.width, picture.height) > _MOST_ENLARGED:
        raise InvalidRequest(f"This model enlarges pictures of at most {_MOST_ENLARGED} pixels a side.", param="image")
    across, down = (max(multiple, side // multiple * multiple) for side in (picture.width, picture.height))
    return across, down


def _arguments(call: Call, sketch: Sketch, settings: Settings) -> dict[str, Any]:
    """What the pipeline takes of it all; what it has no argument for was refused before, or is what it does anyway."""
    width, height = settings.size
    wanted: dict[str | None, Any] = {
        "prompt": sketch.prompt,
        "negative_prompt": sketch.negative_prompt,
        "width": width,
        "height": height,
        STEPS: settings.steps,
        call.guidance: settings.guidance,
        "strength": settings.strength,
        "mask_image": sketch.mask,
        "output_type": "pil",
    }
    if settings.task != "generate":
        wanted.update(call.sources(sketch.images))
    return {name: value for name, value in wanted.items() if name is not None and value is not None and call.takes(name)}


def _binning(pipeline: Any, call: Call) -> dict[str, Any]:
    """Some pipelines draw in the nearest of the sizes they were trained on, and have tables of them for these samples alone."""
    sample = getattr(getattr(getattr(pipeline, "transformer", None), "config", None), "sample_size", None)
    return {_BINNING: False} if call.takes(_BINNING) and sample not in _BINNED else {}


def _labels(pipeline: Any, call: Call, sketch: Sketch) -> dict[str, Any]:
    """A model of classes takes the prompt for the name of one. Raises ``InvalidRequest``."""
    if not call.takes("class_labels") or not hasattr(pipeline, "get_label_ids"):
        return {}
    try:
        return {"class_labels": pipeline.get_label_ids([sketch.prompt])}
    except ValueError as error:
        raise InvalidRequest("This model draws what it has names for; the prompt is none of them.", param="prompt") from error
