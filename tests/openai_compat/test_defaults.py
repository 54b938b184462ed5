"""The default models are complete entries."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from openai_compat.config import Config, Model
from openai_compat.defaults import DEFAULT_MODELS
from openai_compat.gateway.inspect import describe_model
from openai_compat.gateway.scan import scan
from openai_compat.gateway.sources.types import BundledSource, WheelSource, bundled_names, parse_source


def test_every_default_model_comes_with_the_package_or_pins_its_wheel_and_files() -> None:
    for model_id, model in DEFAULT_MODELS.items():
        source = parse_source(model.source)
        if isinstance(source, BundledSource):
            assert model == Model(source=f"bundled:{model_id}")
            continue
        assert isinstance(source, WheelSource)
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
    assert (described.spec.kind, described.analysis.capabilities[0]) == (kind, verb)


def test_every_bundled_model_is_a_default_one() -> None:
    assert {name for name in DEFAULT_MODELS if name.startswith("shapes")} == set(bundled_names())


@pytest.mark.parametrize(
    ("model_id", "kind", "verb"),
    [
        ("shapes", "diffusion", "generate_image"),
        ("shapes-clip", "embedding", "embed_image"),
        ("shapes-classifier", "vision", "process_image"),
        ("shapes-detector", "vision", "process_image"),
        ("shapes-segmenter", "vision", "process_image"),
    ],
)
def test_every_bundled_model_is_found_by_its_files(model_id, kind, verb) -> None:
    described = describe_model(Config(models={model_id: DEFAULT_MODELS[model_id]}), model_id)
    assert described.spec.kind == kind
    assert verb in described.analysis.capabilities


def test_nothing_but_the_named_files_is_in_a_snapshot(minilm_folder, whisper_base_folder) -> None:
    for model_id, folder in (("all-minilm-l6-v2", minilm_folder), ("whisper-base", whisper_base_folder)):
        wanted = {file.name or PurePosixPath(file.path).name for file in DEFAULT_MODELS[model_id].files}
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == wanted
