"""SpeechT5: text to spectrogram, a vocoder that makes sound of it, and a vector for each speaker.

The folder holds, beside the model: ``vocoder/`` (a ``SpeechT5HifiGan``), and ``speaker_embeddings.safetensors`` with one vector
a voice, under the voice's name.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handlers import types as t
from handlers.loading import load_errors, options_of
from handlers.placement import set_threads
from handlers.speaking.reader import Manner, Reader, ReaderOptions, Said
from handlers.speaking.torch_model import pretrained, run, seeded, watched
from openai_compat.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

VOCODER = "vocoder"
EMBEDDINGS = "speaker_embeddings.safetensors"


class SpeechT5(Reader):
    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        options = options_of(spec, ReaderOptions)
        root = Path(spec.path)
        report("placing the weights")
        with load_errors(spec):
            from transformers import AutoTokenizer, SpeechT5ForTextToSpeech, SpeechT5HifiGan

            self._speakers = _speakers(root, spec)
            self._tokenizer = AutoTokenizer.from_pretrained(spec.path, local_files_only=True, trust_remote_code=False)
            self._model: Any = pretrained(SpeechT5ForTextToSpeech, spec.path, spec)
            self._vocoder: Any = pretrained(SpeechT5HifiGan, str(root / VOCODER), spec)
        self._place(spec)
        self._ready(spec, options, own=tuple(self._speakers), rate=self._vocoder.config.sampling_rate)
        set_threads(spec, self.warm_up)
        self.warm_up()

    def _place(self, spec: t.ModelSpec) -> None:
        wanted = self._model.config.speaker_embedding_dim
        for name, vector in self._speakers.items():
            if vector.numel() != wanted:
                raise ModelUnavailable(f"The voice '{name}' of '{spec.id}' does not have the model's {wanted} numbers.")
            self._speakers[name] = vector.reshape(1, -1).to(device=self._model.device, dtype=self._model.dtype)

    def drawing(self, seed: int | None) -> AbstractContextManager[object]:
        """The decoder drops out on purpose, and so never says a thing twice alike."""
        return seeded(seed, self._model.device)

    def say(self, sentence: str, manner: Manner, ctx: t.RunContext) -> Said | None:
        ids = self._tokenizer(sentence, return_tensors="pt")["input_ids"].to(self._model.device)
        with watched(ctx, self._model.speecht5.decoder.wrapped_decoder):
            wave = run(self._model.generate_speech, ids, self._speakers[manner.voice], vocoder=self._vocoder)
        return Said(wave.float().cpu().numpy().reshape(-1), read=ids.shape[1])


def _speakers(root: Path, spec: t.ModelSpec) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    if not (root / EMBEDDINGS).is_file() or not (root / VOCODER).is_dir():
        raise ModelUnavailable(f"'{spec.id}' needs {EMBEDDINGS} with a vector for each voice, and a vocoder in {VOCODER}/.")
    found: dict[str, torch.Tensor] = load_file(root / EMBEDDINGS)
    if not found:
        raise ModelUnavailable(f"The {EMBEDDINGS} of '{spec.id}' holds no voice.")
    return found
