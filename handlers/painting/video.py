"""Filming: a request for a video becomes one call of a pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from handlers import types as t
from handlers.painting.calls import FRAMES, IMAGE, RATE, STEPS, Call, size_errors
from handlers.painting.pixels import resized
from handlers.painting.prompts import tokens_of
from handlers.painting.steps import Steps
from handlers.painting.studio import MOST_SEED, Studio, seed_of
from handlers.pixels import from_pil, to_pil
from handlers.speaking.torch_model import seeded
from openai_compat.errors import InvalidRequest

if TYPE_CHECKING:
    from PIL.Image import Image

USUAL_FRAMES = 16
USUAL_RATE = 8.0
# frames a second that a pipeline's models were trained on, where its call does not say
_RATES = {"HunyuanVideo": 24.0, "Kandinsky5": 24.0, "Mochi": 30.0, "SanaVideo": 16.0, "SkyReels": 24.0, "Wan": 16.0}
_GROUPS = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio")
_MOST_MOTION = "motion_max_seq_length"


class Script(Struct, frozen=True):
    """What is filmed: texts, and the first frame in the size that the pipeline works in. ``tokens``: of the prompt."""

    prompt: str
    negative_prompt: str | None
    image: Any
    tokens: int


class Shot(Struct, frozen=True):
    """How it is filmed; None leaves a setting to the pipeline."""

    size: tuple[int, int]
    frames: int
    rate: float
    steps: int | None
    guidance: float | None
    seed: int


class Frame(Struct, frozen=True):
    """One picture of the library's."""

    image: Any


class Take(Struct, frozen=True):
    """The end of a video."""

    frames: int
    rate: float
    tokens: int


class Filmer:
    """Makes videos with one checkpoint."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def check(self, request: t.VideoRequest) -> None:
        """Raises ``InvalidRequest`` naming the field."""
        pipeline, call = self._pipeline(request)
        self._studio.check_words(pipeline, call, request)
        width, height = self._size(request, pipeline, call)
        if request.seed is not None and not 0 <= request.seed < MOST_SEED:
            raise InvalidRequest("The seed is a whole number from 0 to 2^63.", param="seed")
        frames = self._wanted(request, pipeline, call)
        self._check_frames(request, frames, self._most_frames(pipeline))
        if (pixels := frames * width * height) > self._studio.options.max_pixels:
            most = self._studio.options.max_pixels
            raise InvalidRequest(f"The video has {pixels} pixels in all; at most {most} are made.", param="size")

    def prepare(self, request: t.VideoRequest) -> Script:
        pipeline, call = self._pipeline(request)
        size = self._size(request, pipeline, call)
        image = None if request.image is None else resized(to_pil(request.image).convert("RGB"), size)
        return Script(request.prompt, request.negative_prompt, image, tokens_of(pipeline, call, request.prompt))

    def settings(self, request: t.VideoRequest) -> Shot:
        pipeline, call = self._pipeline(request)
        return Shot(
            size=self._size(request, pipeline, call),
            frames=fitting(pipeline, self._wanted(request, pipeline, call)),
            rate=self._rate(request, pipeline, call),
            steps=self._studio.steps(call, request.steps),
            guidance=self._studio.guidance(call, request.guidance),
            seed=seed_of(request.seed),
        )

    def film(self, script: Script, shot: Shot, ctx: t.RunContext) -> Take:
        """All frames are emitted."""
        import torch

        pipeline, call = self._studio.pipes.filmer(image=script.image is not None)
        arguments = _arguments(call, script, shot)
        if call.takes("generator"):
            arguments["generator"] = torch.Generator(device="cpu").manual_seed(shot.seed)
        steps = Steps(pipeline, ctx)
        with (
            self._studio.placement.computing(),
            seeded(shot.seed, pipeline.device),
            steps.followed(call) as following,
            size_errors(shot.size),
        ):
            made = pipeline(**arguments, **following)
        images = list(_frames(made))
        for image in images:
            ctx.emit(Frame(image))  # type: ignore[arg-type]  # the handler makes a delta of it
        return Take(len(images), shot.rate, script.tokens)

    # ------------------------------------------------------------ choices

    def _pipeline(self, request: t.VideoRequest) -> tuple[Any, Call]:
        return self._studio.pipes.filmer(image=request.image is not None)

    def _size(self, request: t.VideoRequest, pipeline: Any, call: Call) -> tuple[int, int]:
        sizes = self._studio.sizes(pipeline, call)
        if request.image is not None and request.width is None and request.height is None:
            return sizes.near(request.image)
        return sizes.checked(request.width, request.height)

    def _rate(self, request: t.VideoRequest, pipeline: Any, call: Call) -> float:
        name = type(pipeline).__name__
        trained = next((rate for prefix, rate in _RATES.items() if name.startswith(prefix)), USUAL_RATE)
        return float(request.rate or self._studio.options.rate or call.default(call.first(RATE)) or trained)

    def _wanted(self, request: t.VideoRequest, pipeline: Any, call: Call) -> int:
        if request.frames is not None:
            return request.frames
        if request.seconds is not None:
            return max(1, round(request.seconds * self._rate(request, pipeline, call)))
        usual = self._studio.options.frames or call.default(call.first(FRAMES)) or _made_for(pipeline)
        return min(usual, self._most_frames(pipeline))

    def _most_frames(self, pipeline: Any) -> int:
        """A motion adapter has positions for so many frames."""
        config = getattr(getattr(pipeline, "unet", None), "config", {})
        return min(self._studio.options.max_frames, int(config.get(_MOST_MOTION) or self._studio.options.max_frames))

    def _check_frames(self, request: t.VideoRequest, frames: int, most: int) -> None:
        if 1 <= frames <= most:
            return
        param = "seconds" if request.frames is None and request.seconds is not None else "frames"
        raise InvalidRequest(f"'{self._studio.id}' makes videos of 1 to {most} frames; this would have {frames}.", param=param)


def _made_for(pipeline: Any) -> int:
    """The frames that its network was trained on."""
    for part, name in (("unet", "num_frames"), ("transformer", "sample_frames")):
        told = getattr(getattr(pipeline, part, None), "config", {}).get(name)
        if type(told) is int and told > 0:
            return told
    return USUAL_FRAMES


def fitting(pipeline: Any, frames: int) -> int:
    """The most frames, not over ``frames``, that a decoder of whole groups after a first frame can make."""
    group = next((getattr(pipeline, name) for name in _GROUPS if hasattr(pipeline, name)), 1)
    return (frames - 1) // group * group + 1 if isinstance(group, int) and group > 1 else frames


def answer(raw: Any) -> t.FrameDelta | t.VideoResult | t.ProgressDelta:
    """The library's frames as ours."""
    if isinstance(raw, Frame):
        return t.FrameDelta(picture=from_pil(raw.image))
    if isinstance(raw, Take):
        return t.VideoResult(frames=raw.frames, rate=raw.rate, usage=t.Usage(prompt_tokens=raw.tokens))
    progress: t.ProgressDelta = raw
    return progress


def _arguments(call: Call, script: Script, shot: Shot) -> dict[str, Any]:
    rate = call.first(RATE)
    whole = isinstance(call.default(rate), int)
    wanted: dict[str | None, Any] = {
        "prompt": script.prompt,
        "negative_prompt": script.negative_prompt,
        call.first(IMAGE): script.image,
        "width": shot.size[0],
        "height": shot.size[1],
        call.first(FRAMES): shot.frames,
        rate: round(shot.rate) if whole else shot.rate,
        STEPS: shot.steps,
        call.guidance: shot.guidance,
        "output_type": "pil",
    }
    return {name: value for name, value in wanted.items() if name is not None and value is not None and call.takes(name)}


def _frames(made: Any) -> Iterable[Image]:
    """Of the one video; a batch of videos comes as a list of lists."""
    frames = made.frames if hasattr(made, "frames") else made.images
    first = frames[0]
    listed: Iterable[Image] = first if isinstance(first, list) else frames
    return listed
