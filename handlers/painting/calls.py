"""What a pipeline's call takes: each has its own names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from openai_compat.errors import InvalidRequest

IMAGE = ("image", "images", "control_image")
GUIDANCE = ("guidance_scale", "prior_guidance_scale")
FRAMES = ("num_frames", "video_length", "frames")
RATE = ("frame_rate", "fps")
# pipelines that make one picture of several, given as a list in their one argument for pictures
COMPOSERS = ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinKVPipeline", "GlmImagePipeline", "QwenImageEditPlusPipeline")
COUNT = ("num_images_per_prompt", "batch_size")
STEPS = "num_inference_steps"
TRUE_GUIDANCE = "true_cfg_scale"


class Call:
    """The signature of one pipeline."""

    def __init__(self, pipeline: Any) -> None:
        self._parameters = inspect.signature(type(pipeline).__call__).parameters
        self._composes = type(pipeline).__name__ in COMPOSERS

    def takes(self, name: str) -> bool:
        return name in self._parameters

    def first(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in self._parameters), None)

    def default(self, name: str | None) -> Any:
        """None where there is no such argument, or it has to be given."""
        parameter = self._parameters.get(name or "")
        return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default

    @property
    def pictures(self) -> int:
        """How many pictures it takes, 0 for any number."""
        return 0 if self._composes or self.takes("images") else len([name for name in IMAGE if self.takes(name)])

    def sources(self, images: tuple[Any, ...]) -> dict[str, Any]:
        """Pictures as arguments, in the order of the arguments for them."""
        if self.takes("images"):
            return {"images": list(images)}
        if self._composes and len(images) > 1:
            return {"image": list(images)}
        return dict(zip((name for name in IMAGE if self.takes(name)), images, strict=False))

    @property
    def guidance(self) -> str | None:
        """The argument that says how closely to follow the prompt.

        Models with two of them were distilled with the first; the true one counts where it is on by default.
        """
        return TRUE_GUIDANCE if self._truly_guided() else self.first(GUIDANCE)

    @property
    def unwanted(self) -> bool:
        """Whether a negative prompt has any effect."""
        return self.takes("negative_prompt") and (not self.takes(TRUE_GUIDANCE) or self._truly_guided())

    @property
    def generators(self) -> bool:
        """Whether each picture of a batch may have a generator of its own."""
        parameter = self._parameters.get("generator")
        return parameter is not None and "list[" in str(parameter.annotation).lower()

    def _truly_guided(self) -> bool:
        scale = self.default(TRUE_GUIDANCE)
        return isinstance(scale, int | float) and scale > 1


@contextmanager
def size_errors(size: tuple[int, int]) -> Iterator[None]:
    """Some pipelines ask for sides that are multiples of more than their parts need: theirs becomes ``InvalidRequest``."""
    try:
        yield
    except ValueError as error:
        if "divisible" not in str(error):
            raise
        raise InvalidRequest(f"This model makes nothing of {size[0]}x{size[1]}; its usual size fits.", param="size") from error
