"""What every vision model has in common: loading, preparing pictures, and one forward for several of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct

from handlers import types as t
from handlers.loading import load_errors, options_of, require
from handlers.memory import is_out_of_memory
from handlers.pixels import to_pil
from handlers.seeing import loading
from handlers.seeing.families import Family
from handlers.seeing.options import VisionOptions
from openai_compat.errors import APIError, InvalidRequest, ModelUnavailable

PATCH = 16
_USUAL = t.Picture(width=640, height=480, pixels=bytes(640 * 480 * 3))
_BUDGET = {"cpu": 2048, "mps": 8192, "cuda": 32_768}


class View(Struct, frozen=True, kw_only=True):
    """A picture, and the labels to look for in it, where the model takes any."""

    picture: t.Picture
    labels: tuple[str, ...] = ()


class Wanted(Struct, frozen=True, kw_only=True):
    """The effective parameters of one request. ``top_k`` None is all; ``threshold`` None leaves out nothing."""

    task: t.VisionTask
    threshold: float | None
    top_k: int | None


class Backend(ABC):
    """One loaded vision model; used by one thread. Raises ``ModelUnavailable`` on construction.

    Attributes:
        kept: the parts of the model's output that ``find`` reads; the others are dropped at once.
        top_k: the most findings where the client says nothing; None is all.
    """

    kept: ClassVar[tuple[str, ...]] = ("logits",)
    top_k: ClassVar[int | None] = 100

    def __init__(self, spec: t.ModelSpec, family: Family, report: t.LoadReport) -> None:
        self.options = options_of(spec, VisionOptions)
        require(spec, family.needs)
        self.model = loading.load(spec, family.auto_class, report)
        with load_errors(spec):
            self.load_parts(spec)
            self.patches = self._patches_of(_USUAL)
        self._try(spec)
        self.budget = self.options.batch_patches or _BUDGET.get(self.model.device.type, _BUDGET["cpu"])

    def load_parts(self, spec: t.ModelSpec) -> None:
        self.processor: Any = loading.part(spec, "AutoImageProcessor")

    def _try(self, spec: t.ModelSpec) -> None:
        """Look at an empty picture once. Raises ``ModelUnavailable``: some models cannot run with their weights elsewhere."""
        with load_errors(spec):
            (output,) = self.run("", [View(picture=_USUAL, labels=("thing",) if self.words(("thing",), 1) else ())])
        if isinstance(output, APIError):
            raise ModelUnavailable(f"The model '{spec.id}' cannot look at a picture.")

    # ------------------------------------------------------------ what a family says

    @abstractmethod
    def find(self, output: Any, view: View, wanted: Wanted) -> t.LabelResult | t.DepthResult:
        """The answer in the output of one picture."""

    def usual_threshold(self, task: t.VisionTask) -> float | None:
        """The least score where the client says nothing; None leaves out nothing."""
        return None

    def prepare(self, image: Any, view: View) -> dict[str, Any]:
        """The tensors of one picture, each with a first dimension of one picture."""
        return dict(self.processor(images=[image], return_tensors="pt"))

    def words(self, labels: tuple[str, ...], pictures: int) -> dict[str, Any]:
        """The tensors of what to look for in so many pictures."""
        return {}

    # ------------------------------------------------------------ running

    def run(self, lane: str, views: Sequence[View]) -> list[Any]:
        """An output for each picture, in order; an ``InvalidRequest`` for one that cannot be prepared.

        The pictures of a lane are looked at for the same labels. Those that are prepared to one shape run together.
        """
        import torch

        outputs: list[Any] = [None] * len(views)
        groups: dict[tuple[Any, ...], list[tuple[int, dict[str, Any]]]] = {}
        with torch.inference_mode():
            for place, view in enumerate(views):
                try:
                    tensors = self._tensors(view)
                except InvalidRequest as error:
                    outputs[place] = error.with_traceback(None)
                else:
                    groups.setdefault(_shapes(tensors), []).append((place, tensors))
            for group in groups.values():
                places, tensors_of = zip(*group, strict=True)
                for place, output in zip(places, self._forward(tensors_of, views[places[0]].labels), strict=True):
                    outputs[place] = output
        return outputs

    def _tensors(self, view: View) -> dict[str, Any]:
        """Raises ``InvalidRequest``: a library's processor fails in its own ways on pictures of strange proportions."""
        import torch

        try:
            found = self.prepare(to_pil(view.picture).convert("RGB"), view)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise InvalidRequest(
                "The model cannot take a picture of this size.", param="image", code="invalid_image"
            ) from error
        return {name: tensor for name, tensor in found.items() if isinstance(tensor, torch.Tensor)}

    def _forward(self, prepared: Sequence[dict[str, Any]], labels: tuple[str, ...]) -> list[Any]:
        import torch

        inputs = {name: torch.cat([tensors[name] for tensors in prepared]) for name in prepared[0]}
        inputs = {name: self._placed(tensor) for name, tensor in (inputs | self.words(labels, len(prepared))).items()}
        output = self.model(**inputs)
        kept = {name: output[name].float().cpu() for name in self.kept if output.get(name) is not None}
        return [
            self._sound(type(output)(**{name: value[i : i + 1] for name, value in kept.items()})) for i in range(len(prepared))
        ]

    def _placed(self, tensor: Any) -> Any:
        return tensor.to(self.model.device, self.model.dtype if tensor.is_floating_point() else None)

    def _sound(self, output: Any) -> Any:
        """The output itself, or an error where it is no numbers; infinities may be meant."""
        if any(bool(value.isnan().any()) for value in output.values()):
            return APIError("The model failed while processing the request.")
        return output

    # ------------------------------------------------------------ sizes

    def tokens_of(self, view: View) -> int:
        """The patches that a transformer makes of a picture; 0 for a model that makes none."""
        config = self.model.config
        size = next((found for part in _parts(config) if (found := getattr(part, "patch_size", None))), None)
        side = max(size) if isinstance(size, list | tuple) else size
        return self.patches * PATCH**2 // side**2 if isinstance(side, int) else 0

    def _patches_of(self, picture: t.Picture) -> int:
        """How much a usual picture is, once it is prepared, in squares of 16 by 16 pixels."""
        tensors = self._tensors(View(picture=picture, labels=("thing",)))
        shape = next((tensor.shape for name, tensor in tensors.items() if name == "pixel_values"), (1, 1))
        return max(1, int(shape[-1] * shape[-2]) // PATCH**2)


def _shapes(tensors: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, tuple(tensor.shape)) for name, tensor in tensors.items())


def _parts(config: Any) -> list[Any]:
    return [config, getattr(config, "vision_config", None), getattr(config, "backbone_config", None)]


def best(labels: list[t.Label], wanted: Wanted) -> t.LabelResult:
    """The likeliest first, and no more than wanted."""
    ranked = sorted(labels, key=lambda label: label.score, reverse=True)
    return t.LabelResult(labels=tuple(ranked[: wanted.top_k]), task=wanted.task)
