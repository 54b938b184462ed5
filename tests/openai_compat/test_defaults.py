"""The default models are complete entries, and step back as soon as any model is configured."""

from __future__ import annotations

from openai_compat.config import Config, Model
from openai_compat.defaults import DEFAULT_MODELS, with_defaults
from openai_compat.gateway.sources.types import WheelSource, parse_source


def test_every_default_model_pins_its_wheel_and_files() -> None:
    for model in DEFAULT_MODELS.values():
        assert isinstance(parse_source(model.source), WheelSource)
        assert model.files
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in model.files)


def test_defaults_are_for_a_configuration_without_models() -> None:
    assert with_defaults(Config()).models == DEFAULT_MODELS
    mine = Config(models={"m": Model(source="/x")})
    assert with_defaults(mine) is mine
