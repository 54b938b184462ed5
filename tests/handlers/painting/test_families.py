"""The table of pipelines against the diffusers that is installed."""

from __future__ import annotations

import warnings
from collections import Counter

import pytest

from handlers.painting.families import PICTURES, VIDEOS, Filmers, Painters, filmers_of, painters_of, verbs_of

# pipelines that make neither pictures nor videos here, and what they lack for it
OTHER = {
    "sound, text, proteins and bodies": """AceStep AudioLDM AudioLDM2 DanceDiffusion DiffusionGemma LLaDA2 LongCatAudioDiT
        MusicLDM
        RFD4Proteina ShapE ShapEImg2Img StableAudio StableAudio3 StableAudio3AudioToAudio StableAudio3Inpaint""",
    "what a picture shows": "MarigoldDepth MarigoldIntrinsics MarigoldNormals",
    "a video to begin with, a pose, a camera's way, or two pictures": """AnimateDiffControlNet AnimateDiffSparseControlNet
        AnimateDiffVideoToVideo AnimateDiffVideoToVideoControlNet ChronoEdit CogVideoXFunControl CogVideoXVideoToVideo
        Cosmos2_5_Transfer EasyAnimateControl EasyAnimateInpaint Kandinsky6SR LTX2Condition LTX2DFR LTX2DFRTemporalRefine
        LTX2HDR
        LTX2InContext LTX2LatentUpsample LTX2VideoDiffusionDecode LTXI2VLongMultiPrompt LTXLatentUpsample LucyEdit SanaWM
        SkyReelsV2DiffusionForcingVideoToVideo VideoToVideoSD WanAnimate WanVACE WanVideoToVideo""",
    "one half of two": """FluxPriorRedux Kandinsky KandinskyImg2Img KandinskyInpaint KandinskyPrior KandinskyV22
        KandinskyV22Controlnet KandinskyV22ControlnetImg2Img KandinskyV22Img2Img KandinskyV22Inpaint KandinskyV22Prior
        KandinskyV22PriorEmb2Emb StableCascadeDecoder StableCascadePrior WuerstchenDecoder WuerstchenPrior IFSuperResolution
        IFImg2ImgSuperResolution IFInpaintingSuperResolution""",
    "a mask and a control at once, or more of them than a request has": """FluxControlInpaint FluxControlNetInpaint
        QwenImageControlNetInpaint StableDiffusion3ControlNetInpainting StableDiffusionControlNetInpaint
        StableDiffusionControlNetPAGInpaint StableDiffusionXLControlNetInpaint StableDiffusionXLControlNetUnion
        StableDiffusionXLControlNetUnionImg2Img StableDiffusionXLControlNetUnionInpaint ZImageControlNetInpaint
        StableDiffusionControlNetXS StableDiffusionXLControlNetXS""",
    "settings that a request has not": """BlipDiffusion BlipDiffusionControlNet CycleDiffusion KarrasVe PaintByExample
        QwenImageLayered RePaint ScoreSdeVe StableDiffusionAttendAndExcite StableDiffusionDiffEdit StableDiffusionGLIGEN
        StableDiffusionGLIGENTextImage StableDiffusionInpaintPipelineLegacy StableDiffusionLDM3D StableDiffusionModelEditing
        StableDiffusionParadigms StableDiffusionPipelineSafe StableDiffusionPix2PixZero UniDiffuser VersatileDiffusion
        VersatileDiffusionDualGuided VisualCloze VisualClozeGeneration LEditsPPPipelineStableDiffusion
        LEditsPPPipelineStableDiffusionXL""",
    "another runtime": """OnnxStableDiffusion OnnxStableDiffusionImg2Img OnnxStableDiffusionInpaint OnnxStableDiffusionUpscale
        StableDiffusionOnnx""",
}
TASKS = {
    "generate": "AUTO_TEXT2IMAGE_PIPELINES_MAPPING",
    "edit": "AUTO_IMAGE2IMAGE_PIPELINES_MAPPING",
    "inpaint": "AUTO_INPAINT_PIPELINES_MAPPING",
    "text": "AUTO_TEXT2VIDEO_PIPELINES_MAPPING",
    "image": "AUTO_IMAGE2VIDEO_PIPELINES_MAPPING",
}
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
ROWS: tuple[Painters | Filmers, ...] = (*PICTURES, *VIDEOS)


@pytest.fixture(scope="module")
def installed() -> dict[str, type]:
    import diffusers

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in dir(diffusers):
            if "Pipeline" in name and not name.startswith(("Auto", "Modular")):
                try:
                    cls = getattr(diffusers, name)
                except (AttributeError, RuntimeError, ImportError):
                    continue  # what it needs is not installed
                if isinstance(cls, type) and issubclass(cls, diffusers.DiffusionPipeline):
                    found[name] = cls
    return found


def listed() -> list[str]:
    return [name for row in ROWS for name in dict.fromkeys(getattr(row, task) for task in row.__struct_fields__) if name]


def test_every_pipeline_of_the_table_is_there(installed) -> None:
    assert [name for name in listed() if name not in installed] == []


def test_no_pipeline_is_in_two_rows() -> None:
    assert [name for name, count in Counter(listed()).items() if count > 1] == []


def test_every_pipeline_of_diffusers_is_served_or_known_to_be_something_else(installed) -> None:
    other = {name if "Pipeline" in name else f"{name}Pipeline" for names in OTHER.values() for name in names.split()}
    assert sorted(set(installed) - set(listed()) - other - {"DiffusionPipeline"}) == []
    assert sorted(other & set(listed())) == []


@pytest.mark.parametrize("task", TASKS)
def test_diffusers_own_tables_say_the_same(task: str) -> None:
    """But for pipelines that need a control picture: those take it with an edit."""
    from diffusers.pipelines import auto_pipeline

    for cls in getattr(auto_pipeline, TASKS[task]).values():
        name = cls.__name__
        row = painters_of(name) or filmers_of(name)
        if row is None or "Control" in name or name.startswith(("Helios", "AnyFlow")):
            continue
        assert getattr(row, task) == name


@pytest.mark.parametrize(
    ("task", "arguments"), {"edit": ("image", "images", "control_image"), "inpaint": ("mask_image",)}.items()
)
def test_what_a_task_gives_has_an_argument(installed, task: str, arguments: tuple[str, ...]) -> None:
    import inspect

    for row in PICTURES:
        if name := getattr(row, task):
            assert set(arguments) & set(inspect.signature(installed[name].__call__).parameters), name


@pytest.mark.parametrize(
    ("name", "verbs"),
    {
        "StableDiffusionPipeline": {"generate_image"},
        "StableDiffusionImageVariationPipeline": {"generate_image"},
        "WanPipeline": {"generate_video"},
        "StableAudioPipeline": set(),
        "os": set(),
        "": set(),
    }.items(),
)
def test_a_class_tells_what_a_checkpoint_can_do(name: str, verbs: set[str]) -> None:
    assert verbs_of(name) == verbs
