"""Between the steps of a pipeline: whether the answer is still wanted, how far it is, and pictures on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from handlers import types as t
from handlers.painting.calls import Call
from handlers.painting.previews import can_show, decoded, due_steps, predictions, stepping
from handlers.speaking.torch_model import watched

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_ON_STEP_END = "callback_on_step_end"
Show = Callable[[int, "list[Image]"], None]


class Steps:
    """One call of a pipeline, one of ``calls`` that make up an answer."""

    def __init__(self, pipeline: Any, ctx: t.RunContext, *, call: int = 0, calls: int = 1) -> None:
        self._pipeline = pipeline
        self._ctx = ctx
        self._before, self._calls = call, calls
        self._partials, self._size = 0, (0, 0)
        self._show: Show | None = None
        self._predicted: torch.Tensor | None = None

    def show(self, partials: int, size: tuple[int, int], show: Show) -> None:
        """Call ``show`` with the number and the pictures of the batch, as they look on the way, ``partials`` times."""
        if partials and can_show(self._pipeline):
            self._partials, self._size, self._show = partials, size, show

    @contextmanager
    def followed(self, signature: Call) -> Iterator[dict[str, Any]]:
        """While the pipeline runs; gives arguments for its call. A request nobody wants ends at the next network's call."""
        modules = [part for part in self._pipeline.components.values() if hasattr(part, "register_forward_pre_hook")]
        with ExitStack() as stack:
            stack.enter_context(_letting_go(self._pipeline))
            stack.enter_context(watched(self._ctx, *modules))
            if self._show is not None:
                stack.enter_context(predictions(self._pipeline.scheduler, self._keep))
            if signature.takes(_ON_STEP_END):
                yield {_ON_STEP_END: self._ended}
            elif signature.takes("callback"):
                yield {"callback": self._called_back, "callback_steps": 1}
            else:
                stack.enter_context(_counted(getattr(self._pipeline, "scheduler", None), self._stepped))
                yield {}

    def _keep(self, predicted: torch.Tensor | None) -> None:
        self._predicted = predicted

    def _ended(self, pipeline: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self._stepped(index + 1, tensors.get("latents"))
        return {}

    def _called_back(self, index: int, timestep: Any, latents: torch.Tensor) -> None:
        self._stepped(index + 1, latents)

    def _stepped(self, done: int, latents: torch.Tensor | None) -> None:
        steps = max(done, self._total())
        self._ctx.emit(t.ProgressDelta(done=self._before * steps + done, total=self._calls * steps))
        if self._show is not None and (number := due_steps(self._partials, steps).get(done)) is not None:
            predicted = latents if self._predicted is None else self._predicted
            images = decoded(self._pipeline, predicted, self._size) if predicted is not None else []
            if images:
                self._show(number, images)

    def _total(self) -> int:
        """Of this call; an edit takes fewer steps than were asked for."""
        told = getattr(self._pipeline, "_num_timesteps", None)
        if isinstance(told, int):
            return told
        timesteps = getattr(getattr(self._pipeline, "scheduler", None), "timesteps", None)
        return 0 if timesteps is None else len(timesteps)


@contextmanager
def _counted(scheduler: Any, stepped: Callable[[int, Any], None]) -> Iterator[None]:
    """For pipelines that call nobody back."""
    if scheduler is None:
        yield
        return
    step, done = scheduler.step, 0

    @wraps(step)  # pipelines look at its signature to know what it takes
    def counting(*arguments: Any, **named: Any) -> Any:
        nonlocal done
        made = step(*arguments, **named)
        done += 1
        stepped(done, None)
        return made

    with stepping(scheduler, counting):
        yield


@contextmanager
def _letting_go(pipeline: Any) -> Iterator[None]:
    """What an unfinished call has brought to the device goes back; a finished one has seen to that itself."""
    try:
        yield
    except BaseException:
        pipeline.maybe_free_model_hooks()
        raise
