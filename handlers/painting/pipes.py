"""One loaded checkpoint and its companions: pipelines for other tasks on the same components, without a second copy."""

from __future__ import annotations

from typing import Any

from handlers.painting.calls import Call
from handlers.painting.families import Painters, PictureTask, filmers_of, painters_of
from openai_compat.errors import InvalidRequest, UnsupportedCapability

_REFUSED: dict[PictureTask, tuple[str, str]] = {
    "generate": ("makes no picture from text alone; send one to edit", "model"),
    "edit": ("changes a picture only where a mask says", "mask"),
    "inpaint": ("edits the whole picture, and takes no mask", "mask"),
    "vary": ("makes no variations", "model"),
}


class Pipes:
    """The pipelines of one checkpoint, by task.

    Attributes:
        main: the one that its files name.
    """

    def __init__(self, main: Any, model_id: str) -> None:
        self.main = main
        self._id = model_id
        self._name = type(main).__name__
        self._made: dict[str, Any] = {self._name: main}
        self._calls: dict[str, Call] = {}

    def painter(self, task: PictureTask) -> tuple[Any, Call]:
        """The pipeline for a task and its signature. Raises ``InvalidRequest`` where the checkpoint cannot do it."""
        return self._made_for(self._painter_name(task), *_REFUSED[task])

    def filmer(self, *, image: bool) -> tuple[Any, Call]:
        """The pipeline that makes a video, of text or beginning with a picture. Raises ``InvalidRequest``."""
        row = filmers_of(self._name)
        name = (row.image if image else row.text) if row else ""
        refused = "makes videos from text alone" if image else "makes a video of a picture; send one"
        return self._made_for(name, refused, "image")

    def varies(self) -> PictureTask:
        """How a variation is made: by a pipeline for it, else by an edit of weak faith."""
        row = self._row()
        return "vary" if row and row.vary else "edit"

    def _painter_name(self, task: PictureTask) -> str:
        row = self._row()
        if row is None or (task != "inpaint" and self._only_inpaints(row)):
            return ""
        return str(getattr(row, task))

    def _row(self) -> Painters | None:
        return painters_of(self._name)

    def _only_inpaints(self, row: Painters) -> bool:
        """A denoiser that reads the mask and the covered picture beside the latents can do nothing else."""
        if self._name != row.inpaint:
            return False
        unet, vae = getattr(self.main, "unet", None), getattr(self.main, "vae", None)
        return unet is None or vae is None or unet.config.in_channels == 2 * vae.config.latent_channels + 1

    def _made_for(self, name: str, refused: str, param: str) -> tuple[Any, Call]:
        if not name:
            kind = UnsupportedCapability if param == "model" else InvalidRequest
            raise kind(f"The model '{self._id}' {refused}.", param=param)
        if name not in self._made:
            self._made[name] = self._companion(name)
        if name not in self._calls:
            self._calls[name] = Call(self._made[name])
        return self._made[name], self._calls[name]

    def _companion(self, name: str) -> Any:
        """As ``AutoPipeline…from_pipe`` does it, for those too that it does not know."""
        import diffusers

        cls = getattr(diffusers, name)
        modules, settings = cls._get_signature_keys(cls)
        own, config = self.main.components, self.main.config
        if lacking := set(modules) - set(own) - set(cls._optional_components):
            shown = ", ".join(sorted(lacking))
            raise UnsupportedCapability(f"The model '{self._id}' lacks the components {shown} for this.", param="model")
        parts = {key: own[key] for key in modules if key in own}
        made = cls(**parts, **{key: config[key] for key in settings if key in config})
        made.set_progress_bar_config(disable=True)
        return made
