"""VITS of transformers: the voices of MMS, and others whose tokenizer needs no phonemizer.

``options`` beside those of every voice: ``noise_scale`` and ``noise_scale_duration``, how much voice and rhythm vary.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Any

from msgspec import Meta

from handlers import types as t
from handlers.loading import load_errors, options_of
from handlers.placement import set_threads
from handlers.speaking.reader import Manner, Reader, ReaderOptions, Said
from handlers.speaking.torch_model import pretrained, run, seeded
from openai_compat.errors import ModelUnavailable

Scale = Annotated[float, Meta(ge=0, le=2)]


class VitsOptions(ReaderOptions, frozen=True, kw_only=True):
    noise_scale: Scale | None = None
    noise_scale_duration: Scale | None = None


class Vits(Reader):
    keeps_time = True

    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        options = options_of(spec, VitsOptions)
        report("placing the weights")
        with load_errors(spec):
            from transformers import AutoTokenizer, VitsModel

            self._tokenizer = AutoTokenizer.from_pretrained(spec.path, local_files_only=True, trust_remote_code=False)
            _refuse_foreign(self._tokenizer, spec)
            self._model: Any = pretrained(VitsModel, spec.path, spec)
        config = self._model.config
        for name in ("noise_scale", "noise_scale_duration"):
            if (told := getattr(options, name)) is not None:
                setattr(self._model, name, told)
        self._speakers = config.num_speakers
        own = tuple(map(str, range(self._speakers))) if self._speakers > 1 else ("default",)
        self._ready(spec, options, own=own, rate=config.sampling_rate)
        set_threads(spec, self.warm_up)
        self.warm_up()

    def drawing(self, seed: int | None) -> AbstractContextManager[object]:
        return seeded(seed, self._model.device)

    def say(self, sentence: str, manner: Manner, ctx: t.RunContext) -> Said | None:
        inputs = self._tokenizer(sentence, return_tensors="pt").to(self._model.device)
        read = inputs["input_ids"].shape[1]
        if not read:
            return None
        speaker = int(manner.voice) if self._speakers > 1 else None
        rate = self._model.speaking_rate * manner.speed
        wave = run(self._model, **inputs, speaker_id=speaker, speaking_rate=rate).waveform
        return Said(wave[0].float().cpu().numpy(), read=read)


def _refuse_foreign(tokenizer: Any, spec: t.ModelSpec) -> None:
    """Raises ``ModelUnavailable`` where a text would need espeak (GPL) or uroman before the tokenizer."""
    if getattr(tokenizer, "phonemize", False):
        raise ModelUnavailable(f"'{spec.id}' needs espeak's phonemes, and is not served.")
    if getattr(tokenizer, "is_uroman", False):
        from transformers.utils import is_uroman_available

        if not is_uroman_available():
            raise ModelUnavailable(f"'{spec.id}' needs its texts in Latin letters: install the package uroman.")
