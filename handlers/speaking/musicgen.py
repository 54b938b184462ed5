"""MusicGen: music from a description, token by token, so that an unwanted one ends at the next step.

``options``: ``max_seconds``, the longest piece (30, what its authors made it for), and ``seconds``, the usual one (10).
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from handlers import types as t
from handlers.loading import load_errors, options_of
from handlers.placement import set_threads
from handlers.speaking.maker import Maker, Wish
from handlers.speaking.sound import Made, Wave
from handlers.speaking.torch_model import pretrained, run, seeded, watched

Seconds = Annotated[float, Meta(gt=0, le=120)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seconds: Seconds = 10.0
    max_seconds: Seconds = 30.0


class MusicGen(Maker):
    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        options = options_of(spec, Options)
        report("placing the weights")
        with load_errors(spec):
            from transformers import AutoTokenizer, MusicgenForConditionalGeneration

            self._tokenizer = AutoTokenizer.from_pretrained(spec.path, local_files_only=True, trust_remote_code=False)
            self._model: Any = pretrained(MusicgenForConditionalGeneration, spec.path, spec)
        codec = self._model.config.audio_encoder
        self._rate, self._frames = codec.sampling_rate, codec.frame_rate
        self._able(spec, usual=options.seconds, most=options.max_seconds, lacks=("negative_prompt", "steps"))
        set_threads(spec, lambda: None)

    def speak(self, inputs: str, config: Wish, ctx: t.RunContext) -> Made:
        tokens = self._tokenizer([inputs], return_tensors="pt").to(self._model.device)
        steps = max(1, round(config.seconds * self._frames))
        told = {} if config.guidance is None else {"guidance_scale": config.guidance}
        with seeded(config.seed, self._model.device), watched(ctx, self._model.decoder):
            made = run(self._model.generate, **tokens, max_new_tokens=steps + self._lost, **told)
        samples = made[0].float().cpu().numpy()
        ctx.emit(Wave(samples, self._rate))  # type: ignore[arg-type]  # the handler makes a delta of it
        return Made(samples.shape[-1] / self._rate, read=tokens["input_ids"].shape[1], made=steps)

    @property
    def _lost(self) -> int:
        """Steps that the delay between the codebooks takes."""
        books: int = self._model.decoder.config.num_codebooks // self._model.decoder.config.audio_channels
        return books - 1
