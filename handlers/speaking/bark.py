"""Bark: text to tokens of speech to sound, in many steps a sentence; it stops at the first that nobody wants.

Voices are in ``speaker_embeddings.safetensors``: three arrays a voice, called ``NAME/semantic_prompt``, ``NAME/coarse_prompt``
and ``NAME/fine_prompt``. Without any there is one voice, ``default``, which the model makes up anew for each sentence.
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
    import numpy as np
    from numpy.typing import NDArray

EMBEDDINGS = "speaker_embeddings.safetensors"
PARTS = ("semantic_prompt", "coarse_prompt", "fine_prompt")
DEFAULT = "default"
Preset = dict[str, "NDArray[np.int64]"]


class Bark(Reader):
    def __init__(self, spec: t.ModelSpec, report: t.LoadReport) -> None:
        options = options_of(spec, ReaderOptions)
        report("placing the weights")
        with load_errors(spec):
            from transformers import AutoTokenizer, BarkModel, BarkProcessor

            tokenizer = AutoTokenizer.from_pretrained(spec.path, local_files_only=True, trust_remote_code=False)
            self._processor: Any = BarkProcessor(tokenizer)
            self._presets = _presets(Path(spec.path), spec)
            self._model: Any = pretrained(BarkModel, spec.path, spec)
        self._longest = self._model.generation_config.semantic_config.get("max_input_semantic_length", 256)
        rate = self._model.generation_config.sample_rate
        self._ready(spec, options, own=tuple(self._presets) or (DEFAULT,), rate=rate)
        set_threads(spec, lambda: None)

    def drawing(self, seed: int | None) -> AbstractContextManager[object]:
        return seeded(seed, self._model.device)

    def say(self, sentence: str, manner: Manner, ctx: t.RunContext) -> Said | None:
        preset = self._presets.get(manner.voice)
        inputs = self._processor(sentence, voice_preset=preset, max_length=self._longest).to(self._model.device)
        read = int(inputs["attention_mask"].sum())
        parts = self._model.semantic, self._model.coarse_acoustics, self._model.fine_acoustics
        with watched(ctx, *parts):
            wave = run(self._model.generate, **inputs)
        return Said(wave.float().cpu().numpy().reshape(-1), read=read)


def _presets(root: Path, spec: t.ModelSpec) -> dict[str, Preset]:
    """Voices by name. Raises ``ModelUnavailable`` for one that is not whole."""
    if not (root / EMBEDDINGS).is_file():
        return {}
    from safetensors.numpy import load_file

    presets: dict[str, Preset] = {}
    for key, array in load_file(root / EMBEDDINGS).items():
        name, _, part = key.rpartition("/")
        presets.setdefault(name, {})[part] = array
    for name, preset in presets.items():
        if set(preset) != set(PARTS):
            raise ModelUnavailable(f"The voice '{name}' of '{spec.id}' does not have its three parts.")
    return presets
