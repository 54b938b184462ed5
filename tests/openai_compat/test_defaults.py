"""The default models are complete entries."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from openai_compat.config import Config, Model
from openai_compat.defaults import DEFAULT_MODELS
from openai_compat.gateway.inspect import describe_model
from openai_compat.gateway.scan import scan
from openai_compat.gateway.sources.types import WheelSource, parse_source


def test_every_default_model_pins_its_wheel_and_files() -> None:
    for model in DEFAULT_MODELS.values():
        assert isinstance(parse_source(model.source), WheelSource)
        assert model.files
        pieces = [piece for file in model.files for piece in (*file.parts, file)]
        assert all(len(bytes.fromhex(piece.sha256)) == 32 for piece in pieces)
        assert all(isinstance(parse_source(piece.source), WheelSource) for piece in pieces if piece.source)


@pytest.mark.parametrize(
    ("model_id", "fixture", "kind", "verb"),
    [
        ("smollm2-135m-instruct", "smollm2_folder", "transformer", "generate_text"),
        ("all-minilm-l6-v2", "minilm_folder", "embedding", "embed_text"),
        ("whisper-base", "whisper_base_folder", "audio", "process_audio"),
        ("piper-joe", "piper_joe_folder", "audio", "generate_audio"),
    ],
)
def test_every_default_model_is_passed_by_the_scan_and_found_by_its_files(request, model_id, fixture, kind, verb) -> None:
    folder = request.getfixturevalue(fixture)
    assert scan(folder) == ()
    config = Config(models={model_id: Model(source=str(folder))})
    described = describe_model(config, model_id)
    assert (described.spec.kind, described.analysis.capabilities) == (kind, (verb,))


def test_nothing_but_the_named_files_is_in_a_snapshot(minilm_folder, whisper_base_folder) -> None:
    for model_id, folder in (("all-minilm-l6-v2", minilm_folder), ("whisper-base", whisper_base_folder)):
        wanted = {file.name or PurePosixPath(file.path).name for file in DEFAULT_MODELS[model_id].files}
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == wanted
