"""How a picture looks on the way: what the scheduler thinks it will become, decoded. The final result does not change.

Pipelines whose latents are not one small picture each, in a decoder of the usual kinds, show none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_DECODERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AsymmetricAutoencoderKL")
_X0_ALGORITHMS = ("dpmsolver++", "sde-dpmsolver++")


def due_steps(partials: int, steps: int) -> dict[int, int]:
    """The number of the partial picture by the step after which it is shown, evenly spaced; the last step shows none."""
    spaced = (round(steps * (number + 1) / (partials + 1)) for number in range(partials))
    shown = sorted({step for step in spaced if 0 < step < steps})
    return {step: number for number, step in enumerate(shown)}


def can_show(pipeline: Any) -> bool:
    return type(getattr(pipeline, "vae", None)).__name__ in _DECODERS and hasattr(pipeline, "image_processor")


@contextmanager
def predictions(scheduler: Any, keep: Callable[[torch.Tensor | None], None]) -> Iterator[None]:
    """Tell ``keep`` after each step what the scheduler predicts the end to be, None where it does not say."""
    step = scheduler.step

    @wraps(step)  # pipelines look at its signature to know what it takes
    def predicting(output: Any, timestep: Any, sample: Any, *rest: Any, return_dict: bool = True, **named: Any) -> Any:
        done = step(output, timestep, sample, *rest, return_dict=True, **named)
        keep(_predicted(scheduler, done, output, sample))
        return done if return_dict else done.to_tuple()

    with stepping(scheduler, predicting):
        yield


@contextmanager
def stepping(scheduler: Any, step: Callable[..., Any]) -> Iterator[None]:
    """Take ``step`` for the scheduler's, also where it stands for another already."""
    before = vars(scheduler).get("step")
    scheduler.step = step
    try:
        yield
    finally:
        if before is None:
            del scheduler.step
        else:
            scheduler.step = before


def decoded(pipeline: Any, latents: torch.Tensor, size: tuple[int, int]) -> list[Image]:
    """Pictures of latents, ``size`` is width and height; empty where they are of an unknown form, or not to be shown."""
    if latents.ndim == 3 and hasattr(pipeline, "_unpack_latents"):
        latents = pipeline._unpack_latents(latents, size[1], size[0], pipeline.vae_scale_factor)
    if latents.ndim != 4:
        return []
    made = _decode(pipeline, latents)
    if getattr(pipeline, "safety_checker", None) is None:
        images: list[Image] = pipeline.image_processor.postprocess(made, output_type="pil")
        return images
    checked, flagged = pipeline.run_safety_checker(made, made.device, made.dtype)
    return [] if any(flagged or ()) else list(pipeline.image_processor.postprocess(checked, output_type="pil"))


def _decode(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    vae = pipeline.vae
    halves = vae.dtype
    upcast = getattr(vae.config, "force_upcast", False) and str(halves) == "torch.float16"
    if upcast:
        vae.float()
    made: torch.Tensor = vae.decode(_unscaled(vae.config, latents).to(vae.dtype), return_dict=False)[0]
    if upcast:
        vae.to(halves)
    return made


def _unscaled(config: Any, latents: torch.Tensor) -> torch.Tensor:
    latents = latents / (getattr(config, "scaling_factor", None) or 1.0)
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and deviation is not None:
        shape = (1, -1, 1, 1)
        return latents * latents.new_tensor(deviation).view(shape) + latents.new_tensor(mean).view(shape)
    return latents + (getattr(config, "shift_factor", None) or 0.0)


def _predicted(scheduler: Any, done: Any, output: Any, sample: Any) -> torch.Tensor | None:
    for name in ("pred_original_sample", "denoised"):
        if (told := getattr(done, name, None)) is not None:
            return told
    config = scheduler.config
    if type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler":
        return sample - scheduler.sigmas[scheduler.step_index - 1] * output
    if getattr(config, "algorithm_type", None) in _X0_ALGORITHMS or getattr(config, "predict_x0", False):
        outputs = [kept for kept in getattr(scheduler, "model_outputs", ()) if kept is not None]
        return outputs[-1] if outputs else None
    return None
