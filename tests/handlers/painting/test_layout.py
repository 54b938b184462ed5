"""A pipeline's folder: what may be loaded at all, what is missing, and how much it is; from files alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.diffusion import DiffusionHandler
from handlers.headers import BadHeader
from handlers.painting.families import pipeline_class
from handlers.painting.layout import BESIDE, read_index, read_weights, variant_of
from handlers.registry import detect
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.scan import scan

Copy = Callable[..., Path]


@pytest.fixture
def copied(folder_of, tmp_path) -> Copy:
    """A copy of a family's folder, its index changed by ``changes`` where there are any."""

    def copy(family: str = "stable_diffusion", **changes: Any) -> Path:
        folder = Path(shutil.copytree(folder_of(family), tmp_path / family))
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | changes))
        return folder

    return copy


def spec(folder: Path, **changes: object) -> t.ModelSpec:
    return t.ModelSpec(id="tiny", path=str(folder), kind="diffusion", **{"device": "cpu", "threads": 1, **changes})


def problems(folder: Path) -> tuple[str, ...]:
    return DiffusionHandler.validate_model_files(spec(folder))


# ---------------------------------------------------------------- what may be loaded


@pytest.mark.parametrize(
    "family", ["stable_diffusion", "stable_diffusion_3", "image_variation", "unconditional", "stable_video", "ltx"]
)
def test_a_saved_pipeline_passes_the_scan_and_lacks_nothing(folder_of, family: str) -> None:
    folder = folder_of(family)
    assert scan(folder) == ()
    assert problems(folder) == ()
    assert detect(str(folder)) == "diffusion"


FOREIGN = [
    ["os", "system"],
    ["subprocess", "Popen"],
    ["transformers.utils", "logging"],
    ["my_code", "Net"],
    ["../../evil", "Net"],
    ["stable_diffusion", "StableDiffusionPipeline"],
    ["diffusers", "StableDiffusionPipeline"],
    ["diffusers", "Net.evil"],
    ["importlib", "import_module"],
]


@pytest.mark.parametrize("component", FOREIGN, ids="-".join)
def test_a_component_of_anything_else_is_neither_listed_nor_loaded(copied, component: list[str]) -> None:
    folder = copied(unet=component)
    assert "the component 'unet'" in problems(folder)[0]
    with pytest.raises(ModelUnavailable, match="unet"):
        DiffusionHandler(spec(folder)).load_model(lambda stage, done=0, total=0: None)


def test_no_foreign_module_is_imported_while_a_pipeline_is_refused(copied, tmp_path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "my_code.py").write_text(f"open({str(mark)!r}, 'w').close()")
    folder = copied(unet=["my_code", "Net"], scheduler=["my_code", "Clock"])
    code = (
        "from handlers.diffusion import DiffusionHandler; from handlers import types as t\n"
        f"spec = t.ModelSpec(id='x', path={str(folder)!r}, kind='diffusion', device='cpu')\n"
        "print(DiffusionHandler.validate_model_files(spec))\n"
        "try: DiffusionHandler(spec).load_model(lambda stage, done=0, total=0: None)\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[3]}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "BadHeader" in done.stdout
    assert not mark.exists()


@pytest.mark.parametrize("name", ["DiffusionPipeline", "StableAudioPipeline", "os", ["my_code", "Pipeline"], None, 7])
def test_a_pipeline_that_makes_no_pictures_is_refused_by_name(copied, name: Any) -> None:
    folder = copied(_class_name=name)
    assert "model_index.json: the pipeline" in problems(folder)[0]
    assert DiffusionHandler.get_model_capabilities(spec(folder)) == set()


def test_an_index_with_code_of_its_own_does_not_pass_the_scan(copied) -> None:
    folder = copied(custom_pipeline="somebody/code")
    assert any("custom_pipeline" in line for line in scan(folder))
    (folder / "unet" / "my_code.py").write_text("")
    assert any(line.startswith("unet/my_code.py") for line in scan(folder))


def test_a_model_card_brings_no_other_pipeline_along(copied, monkeypatch) -> None:
    """diffusers would load what the card names as ``prior``, from wherever that is."""
    import diffusers

    from handlers.painting import loading

    assert diffusers.KandinskyV22CombinedPipeline._load_connected_pipes
    assert not loading._unconnected(diffusers.KandinskyV22CombinedPipeline)._load_connected_pipes
    assert loading._unconnected(diffusers.StableDiffusionPipeline) is diffusers.StableDiffusionPipeline


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_the_classes_beside_pipelines_are_there() -> None:
    from diffusers import pipelines

    for folder, names in BESIDE.items():
        assert [name for name in names if not hasattr(getattr(pipelines, folder), name)] == []


def test_weights_in_another_format_are_not_loaded(copied) -> None:
    folder = copied()
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert problems(folder) == ("unet/diffusion_pytorch_model.safetensors: is missing",)
    with pytest.raises(ModelUnavailable):
        DiffusionHandler(spec(folder)).load_model(lambda stage, done=0, total=0: None)


# ---------------------------------------------------------------- what is missing


@pytest.mark.parametrize(
    ("file", "said"),
    {
        "vae/config.json": "vae/config.json: is missing",
        "vae/diffusion_pytorch_model.safetensors": "vae/diffusion_pytorch_model.safetensors: is missing",
        "text_encoder/model.safetensors": "text_encoder/model.safetensors: is missing",
        "scheduler/scheduler_config.json": "scheduler/scheduler_config.json: is missing",
    }.items(),
)
def test_a_missing_file_is_named_with_its_component(copied, file: str, said: str) -> None:
    folder = copied()
    (folder / file).unlink()
    assert problems(folder) == (said,)


def test_a_folder_that_is_not_there_is_named(tmp_path) -> None:
    assert problems(tmp_path / "nothing") == ("nothing: there is no such folder",)


def test_a_broken_index_is_named(copied) -> None:
    folder = copied()
    (folder / "model_index.json").write_text("{")
    assert problems(folder) == ("model_index.json: cannot be read as JSON",)
    assert pipeline_class(str(folder)) == ""


def test_shards_are_found_by_their_index_and_stay_in_their_folder(copied, folder_of) -> None:
    from diffusers import UNet2DConditionModel

    folder = copied()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="200KB")
    shards = sorted((folder / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    whole = {part.component: part.elements for part in read_weights(folder_of("stable_diffusion"))}
    assert {part.component: part.elements for part in read_weights(folder)} == whole
    assert problems(folder) == ()
    shards[0].unlink()
    assert problems(folder) == (f"unet/{shards[0].name}: is missing, and the index names it",)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    assert problems(folder) == ("diffusion_pytorch_model.safetensors.index.json: names no shards in its own folder",)


# ---------------------------------------------------------------- how much it is


def test_parameters_and_bytes_are_those_of_all_components(folder_of) -> None:
    from diffusers import StableDiffusionPipeline

    folder = folder_of("stable_diffusion")
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    count = sum(p.numel() for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in part.parameters())
    found = DiffusionHandler.analyze(spec(folder))
    assert found.parameters == count
    assert found.bytes_per_dtype["float32"] == 4 * count
    assert found.bytes_per_dtype["float16"] == 2 * count
    assert found.load_bytes > found.bytes_per_dtype["float32"]


def test_more_pictures_at_once_need_more_memory_and_smaller_weights_less(folder_of) -> None:
    folder = folder_of("stable_diffusion")
    usual = DiffusionHandler.analyze(spec(folder)).load_bytes
    assert DiffusionHandler.analyze(spec(folder, options={"max_batch": 16})).load_bytes > usual
    assert DiffusionHandler.analyze(spec(folder, options={"quantization": "int8"})).load_bytes < usual


def test_files_of_a_half_type_alone_are_found_counted_once_and_loaded(copied, collector) -> None:
    """As many repositories have them: each file twice, or as ``.fp16.safetensors`` alone."""
    import torch
    from diffusers import StableDiffusionPipeline

    folder = copied()
    whole = DiffusionHandler.analyze(spec(folder)).parameters
    halves = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float16)
    halves.save_pretrained(folder, variant="fp16")
    assert DiffusionHandler.analyze(spec(folder)).parameters == whole
    assert variant_of(folder, read_index(folder)[1]) is None
    for plain in [*folder.rglob("diffusion_pytorch_model.safetensors"), *folder.rglob("model.safetensors")]:
        plain.unlink()
    assert problems(folder) == ()
    assert variant_of(folder, read_index(folder)[1]) == "fp16"
    found = DiffusionHandler.analyze(spec(folder))
    assert (found.parameters, found.dtype) == (whole, "float16")
    handler = DiffusionHandler(spec(folder))
    handler.load_model(lambda stage, done=0, total=0: None)
    assert str(handler._painter._studio.pipes.main.unet.dtype) == "torch.float32"
    assert handler.generate_image(t.ImageRequest(prompt="x", steps=1), collector()).pictures


@pytest.mark.parametrize(("dtype", "loaded"), {"auto": "float32", "bfloat16": "bfloat16"}.items())
def test_a_half_type_is_used_on_a_processor_only_where_it_is_asked_for(folder_of, loader, collector, dtype, loaded) -> None:
    handler = loader(folder_of("stable_diffusion"), dtype=dtype)
    assert str(handler._painter._studio.pipes.main.unet.dtype) == f"torch.{loaded}"
    assert handler.generate_image(t.ImageRequest(prompt="x", steps=1), collector()).pictures


def test_headers_that_lie_are_refused(copied) -> None:
    folder = copied()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(BadHeader):
        DiffusionHandler.analyze(spec(folder))


LIES: list[Any] = [
    None,
    True,
    -1,
    0,
    2**70,
    float("nan"),
    "x",
    [],
    [None],
    [["a"], "b"],
    {},
    [2**62] * 3,
    ["diffusers", None],
    [0, 0],
]
KEYS = {
    "model_index.json": ("_class_name", "unet", "vae"),
    "unet/config.json": ("sample_size", "block_out_channels"),
    "vae/config.json": ("block_out_channels", "latent_channels"),
}


@pytest.mark.parametrize(("file", "key"), [(file, key) for file, keys in KEYS.items() for key in keys])
def test_whatever_a_configuration_holds_is_a_fact_or_a_refusal(copied, file: str, key: str) -> None:
    folder = copied()
    content = json.loads((folder / file).read_text())
    for lie in LIES:
        (folder / file).write_text(json.dumps(content | {key: lie}))
        assert all(isinstance(line, str) for line in problems(folder))
        try:
            found = DiffusionHandler.analyze(spec(folder))
        except ModelUnavailable:
            continue
        assert 0 < found.load_bytes < 2**63


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("unet/config.json", "layers_per_block"),
        ("unet/config.json", "cross_attention_dim"),
        ("vae/config.json", "block_out_channels"),
        ("text_encoder/config.json", "num_hidden_layers"),
        ("text_encoder/config.json", "vocab_size"),
    ],
)
def test_a_network_that_is_larger_than_its_weights_is_refused_before_it_is_built(copied, file: str, key: str) -> None:
    """Ten million layers would be built for hours before the first weight is missed."""
    folder = copied()
    content = json.loads((folder / file).read_text())
    much = [10**7] * len(content[key]) if isinstance(content[key], list) else 10**7
    (folder / file).write_text(json.dumps(content | {key: much}))
    with pytest.raises(BadHeader, match=f"'{key}' is more than its weights have"):
        DiffusionHandler.analyze(spec(folder))
