"""Sound from a description by the pipelines of diffusers, step by step, so that an unwanted one ends at the next step.

``options``: ``seconds``, the usual length (the pipeline's own if not set), ``max_seconds``, and ``steps``, the usual number.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from handlers import types as t
from handlers.analyze import read_config
from handlers.loading import load_errors, options_of
from handlers.placement import device_of, dtype_of, set_threads
from handlers.speaking.maker import Maker, Wish
from handlers.speaking.sound import Made, Wave
from handlers.speaking.torch_model import seeded, watched
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Seconds = Annotated[float, Meta(gt=0, le=120)]
USUAL = 10.0
LONGEST = 60.0


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seconds: Seconds | None = None
    max_seconds: Seconds = LONGEST
    steps: Annotated[int, Meta(ge=1, le=500)] | None = None


class _Kind(Struct, frozen=True):
    """How a pipeline is called: its argument for the length, its denoiser, and where its sample rate stands."""

    length: str
    denoiser: str
    rate: str


_KINDS = {
    "StableAudioPipeline": _Kind("audio_end_in_s", "transformer", "vae"),
    "AudioLDM2Pipeline": _Kind("audio_length_in_s", "unet", "vocoder"),
}


class DiffusionAudio(Maker):
    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        options = options_of(spec, Options)
        self._kind = _kind_of(spec)
        report("placing the weights")
        with load_errors(spec):
            self._pipeline = _load(spec)
        self._steps = options.steps
        self._rate = int(getattr(self._pipeline, self._kind.rate).config.sampling_rate)
        most = min(options.max_seconds, self._made_for())
        self._able(spec, usual=options.seconds or USUAL, most=most)
        set_threads(spec, lambda: None)

    def speak(self, inputs: str, config: Wish, ctx: t.RunContext) -> Made:
        samples = self._make(inputs, config, ctx)
        ctx.emit(Wave(samples, self._rate))  # type: ignore[arg-type]  # the handler makes a delta of it
        return Made(samples.shape[-1] / self._rate)

    def _make(self, prompt: str, wish: Wish, ctx: t.RunContext) -> NDArray[np.float32]:
        """The pipeline takes a generator of its own; what it draws besides, from the global one, is this request's too."""
        import torch

        device = self._pipeline.device
        told = {"num_inference_steps": wish.steps or self._steps, "guidance_scale": wish.guidance}
        arguments = {name: value for name, value in told.items() if value is not None}
        denoiser = getattr(self._pipeline, self._kind.denoiser)
        with seeded(wish.seed, device), watched(ctx, denoiser):
            generator = torch.Generator(device="cpu").manual_seed(torch.initial_seed())
            made = self._pipeline(
                prompt,
                negative_prompt=wish.negative_prompt,
                generator=generator,
                output_type="np",
                **{self._kind.length: wish.seconds},
                **arguments,
            )
        samples: NDArray[np.float32] = made.audios[0]
        return samples

    def _made_for(self) -> float:
        """The longest sound that the pipeline can make at once, in seconds; those that say nothing make any."""
        size = getattr(getattr(self._pipeline, self._kind.denoiser).config, "sample_size", None)
        if self._kind.rate != "vae" or not isinstance(size, int):
            return LONGEST
        seconds: float = size * self._pipeline.vae.hop_length / self._rate
        return seconds


def _kind_of(spec: t.ModelSpec) -> _Kind:
    name = str(read_config(Path(spec.path)).get("_class_name"))
    if name not in _KINDS:
        raise ModelUnavailable(f"The pipeline of '{spec.id}' is not one of {', '.join(_KINDS)}.")
    return _KINDS[name]


def _load(spec: t.ModelSpec) -> Any:
    from diffusers import DiffusionPipeline
    from diffusers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = device_of(spec)
    dtype = dtype_of(spec, "float32", device)
    pipeline = DiffusionPipeline.from_pretrained(
        spec.path, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
