"""Janus: a language model that sees pictures and paints them, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handlers import types as t
from handlers.deferred import Deferred
from handlers.mixing.families import JANUS, architecture_of
from handlers.mixing.modes import JANUS_MODES
from handlers.multimodal import MultimodalHandler
from openai_compat.errors import ContextLengthExceeded, InvalidRequest, UnsupportedParameter

if TYPE_CHECKING:
    from handlers.decoding.ticket import Prompt
    from handlers.mixing.painter import PaintConfig

_USUAL_GUIDANCE, _USUAL_TOP_K = 5.0, 50  # the library's own, where a checkpoint names none
_PAINTING = ("auto", "image")


class JanusHandler(MultimodalHandler):
    """Chats, with pictures or without, and pictures painted with classifier-free guidance.

    The pictures of one request are painted in one batch; requests for texts go on meanwhile, a token each in turn.
    """

    modes = JANUS_MODES

    # ------------------------------------------------------------ facts

    @classmethod
    def get_model_capabilities(cls, spec: t.ModelSpec) -> frozenset[t.Verb]:
        return cls.overridden_verbs() if architecture_of(spec.path) == JANUS else frozenset()

    # ------------------------------------------------------------ pipeline

    def load_model(self, report: t.LoadReport) -> None:
        from handlers.mixing.painter import Painter

        super().load_model(report)
        wishes = self._mixed.wishes
        told = getattr(wishes, "generation_kwargs", None) or {}
        begin = told.get("boi_token_id", self._prompts.picture_start_id)
        self._painter = Painter(
            self._lm.model,
            self._to_pictures,
            kept=frozenset(number for number in (wishes.bos_token_id, begin) if number is not None),
            blank=wishes.pad_token_id or 0,
        )

    def validate_inputs(self, request: t.Request) -> None:
        if not isinstance(request, t.ImageRequest):
            super().validate_inputs(request)
            return
        side = self._painter.side
        if (request.width, request.height) not in ((None, None), (side, side)):
            raise InvalidRequest(f"This model's pictures have the size {side}x{side}.", param="size")
        if request.task != "generate" or request.images or request.mask:
            raise InvalidRequest("This model paints from words alone.", param="image")
        if request.mode not in (None, *_PAINTING):
            raise InvalidRequest(f"The mode '{request.mode}' answers with text.", param="mode")
        for name in ("negative_prompt", "steps", "strength"):
            if getattr(request, name) is not None:
                raise UnsupportedParameter(f"Unsupported parameter: '{name}'. This model has no use for it.", param=name)

    def prepare_inputs(self, request: t.Request) -> tuple[Prompt, ...]:
        if not isinstance(request, t.ImageRequest):
            return super().prepare_inputs(request)
        prompt = self._prompts.to_paint(request.prompt, codes=self._painter.codes)
        if len(prompt.ids) + prompt.limit > self._lm.context_length:
            raise ContextLengthExceeded(
                prompt_tokens=len(prompt.ids), max_tokens=prompt.limit, context_length=self._lm.context_length, param="prompt"
            )
        return (prompt,)

    def get_generation_config(self, request: t.Request) -> Any:
        return self._paint_config(request) if isinstance(request, t.ImageRequest) else super().get_generation_config(request)

    def postprocess_outputs(self, raw: Any, request: t.Request) -> Any:
        """What is shown while painting is shown as it is; pictures become the result."""
        if not isinstance(request, t.ImageRequest):
            return super().postprocess_outputs(raw, request)
        if isinstance(raw, t.ProgressDelta | t.PictureDelta):
            return raw
        prompt, pictures = raw
        painted = len(pictures) * self._painter.codes
        return t.PictureResult(pictures=pictures, usage=t.Usage(prompt_tokens=len(prompt.ids), completion_tokens=painted))

    # ------------------------------------------------------------ verbs

    def generate_image(self, request: t.ImageRequest, ctx: t.RunContext) -> Deferred[t.PictureResult]:
        (prompt,) = self.prepare_inputs(request)
        config = self.get_generation_config(request)

        def show(delta: t.ProgressDelta | t.PictureDelta) -> None:
            ctx.emit(self.postprocess_outputs(delta, request))

        def finish(pictures: tuple[t.Picture, ...]) -> t.PictureResult:
            result: t.PictureResult = self.postprocess_outputs((prompt, pictures), request)
            return result

        return self._painter.submit(prompt.ids, config, ctx, show, finish)

    def _paint_config(self, request: t.ImageRequest) -> PaintConfig:
        """The request's guidance and seed; all else as the model was published."""
        from handlers.mixing.painter import PaintConfig

        wishes = self._mixed.wishes
        own = wishes.guidance_scale if wishes.guidance_scale is not None else _USUAL_GUIDANCE
        return PaintConfig(
            n=request.n,
            guidance=own if request.guidance is None else request.guidance,
            seed=request.seed,
            sample=bool(wishes.do_sample),
            temperature=wishes.temperature if wishes.temperature is not None else 1.0,
            top_k=wishes.top_k if wishes.top_k is not None else _USUAL_TOP_K,
            top_p=wishes.top_p if wishes.top_p is not None else 1.0,
            partial_images=request.partial_images if request.stream else 0,
        )

    def _to_pictures(self, pixels: Any) -> list[t.Picture]:
        """With channels first, as the library's processor for PIL needs them."""
        planes = list(pixels.float().cpu().permute(0, 3, 1, 2))
        images = self._mixed.processor.postprocess(planes, return_tensors="PIL.Image.Image")["pixel_values"]
        return [t.Picture(width=image.width, height=image.height, pixels=image.tobytes()) for image in images]
