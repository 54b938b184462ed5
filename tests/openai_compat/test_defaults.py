"""The default models are complete entries."""

from __future__ import annotations

from openai_compat.defaults import DEFAULT_MODELS
from openai_compat.gateway.sources.types import WheelSource, parse_source


def test_every_default_model_pins_its_wheel_and_files() -> None:
    for model in DEFAULT_MODELS.values():
        assert isinstance(parse_source(model.source), WheelSource)
        assert model.files
        pieces = [piece for file in model.files for piece in (*file.parts, file)]
        assert all(len(bytes.fromhex(piece.sha256)) == 32 for piece in pieces)
        assert all(isinstance(parse_source(piece.source), WheelSource) for piece in pieces if piece.source)
