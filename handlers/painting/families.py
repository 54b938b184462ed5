"""Which pipelines of diffusers make pictures or videos, and which of them share their parts.

A row names the classes that work on the same components: what is loaded for one of them serves them all. A test compares the
tables with the installed diffusers, so that a pipeline it gains or loses is seen. Imports no heavy library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from handlers import types as t

PictureTask: TypeAlias = Literal["generate", "edit", "inpaint", "vary"]
VideoTask: TypeAlias = Literal["text", "image"]
_MAX_INDEX = 2**20


class Painters(Struct, frozen=True):
    """Classes that share components, by what they do; empty where diffusers has none.

    ``edit`` starts from a picture, or keeps to it as its control; ``inpaint`` changes where a mask says; ``vary`` makes another
    picture like the one it is given.
    """

    generate: str = ""
    edit: str = ""
    inpaint: str = ""
    vary: str = ""


class Filmers(Struct, frozen=True):
    """Classes that share components and make a video: of ``text`` alone, or one that begins with an ``image``."""

    text: str = ""
    image: str = ""


def _usual(stem: str, *, inpaint: bool = True) -> Painters:
    """Classes with diffusers' usual names."""
    return Painters(f"{stem}Pipeline", f"{stem}Img2ImgPipeline", f"{stem}InpaintPipeline" if inpaint else "")


def _both(stem: str, inpaint: str = "") -> Painters:
    """One class that takes a picture or none."""
    return Painters(f"{stem}Pipeline", f"{stem}Pipeline", inpaint)


def _combined(stem: str) -> Painters:
    return Painters(*(f"{stem}{task}CombinedPipeline" for task in ("", "Img2Img", "Inpaint")))


# those of text alone, of which diffusers has no companion
_TEXT_TO_IMAGE = (
    "AuraFlow Bria BriaFibo CogView3Plus CogView4 ConsistencyModel Cosmos2TextToImage DDIM DDPM DiT ErnieImage HiDreamImage "
    "HunyuanDiT HunyuanDiTPAG HunyuanImage Ideogram4 Kandinsky5T2I KolorsPAG Krea2 LDM LDMTextToImage LongCatImage Lumina "
    "Lumina2 NucleusMoEImage OmniGen OvisImage PNDM PRX PRXPixel PixArtAlpha PixArtSigma PixArtSigmaPAG QwenImage21 Sana "
    "SanaPAG SemanticStableDiffusion StableCascadeCombined StableDiffusionPanorama StableDiffusionSAG StableUnCLIP UnCLIP "
    "VQDiffusion VersatileDiffusionTextToImage WuerstchenCombined"
)
# those of one picture: a start, or a control; with two of them the start comes first
_EDIT = (
    "BriaFiboEdit CogView4Control FluxControl FluxControlImg2Img FluxControlNet FluxControlNetImg2Img HunyuanDiTControlNet "
    "HunyuanImageRefiner JoyImageEdit JoyImageEditPlus Kandinsky5I2I LDMSuperResolution LongCatImageEdit QwenImageControlNet "
    "QwenImageEditPlus SanaControlNet StableDiffusion3ControlNet StableDiffusionAdapter StableDiffusionControlNet "
    "StableDiffusionControlNetImg2Img StableDiffusionControlNetPAG StableDiffusionDepth2Img StableDiffusionInstructPix2Pix "
    "StableDiffusionLatentUpscale StableDiffusionUpscale StableDiffusionXLAdapter StableDiffusionXLControlNet "
    "StableDiffusionXLControlNetImg2Img StableDiffusionXLControlNetPAG StableDiffusionXLControlNetPAGImg2Img "
    "StableDiffusionXLInstructPix2Pix ZImageControlNet"
)
_VARY = "StableDiffusionImageVariation StableUnCLIPImg2Img UnCLIPImageVariation VersatileDiffusionImageVariation"
_TEXT_TO_VIDEO = (
    "Allegro AnimateDiff AnimateDiffPAG AnimateDiffSDXL AnyFlow AnyFlowFAR CogVideoX CosmosTextToWorld EasyAnimate "
    "HunyuanVideo HunyuanVideo15 Kandinsky5T2V Latte Mochi MotifVideo SanaVideo SkyReelsV2 SkyReelsV2DiffusionForcing "
    "TextToVideoSD TextToVideoZero TextToVideoZeroSDXL Wan"
)
_IMAGE_TO_VIDEO = (
    "CogVideoXImageToVideo Cosmos2VideoToWorld CosmosVideoToWorld HunyuanSkyreelsImageToVideo HunyuanVideo15ImageToVideo "
    "HunyuanVideoFramepack HunyuanVideoImageToVideo I2VGenXL Kandinsky5I2V MotifVideoImage2Video PIA SanaImageToVideo "
    "SkyReelsV2DiffusionForcingImageToVideo SkyReelsV2ImageToVideo StableVideoDiffusion WanImageToVideo"
)
_EITHER_TO_VIDEO = "Cosmos2_5_PredictBase Cosmos3Omni Helios HeliosPyramid Kandinsky6TI2VA LTXCondition"

PICTURES: tuple[Painters, ...] = (
    *(_usual(stem) for stem in ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "StableDiffusionPAG")),
    *(_usual(stem) for stem in ("StableDiffusionXLPAG", "Flux", "QwenImage", "ZImage", "Chroma", "Amused")),
    *(_usual(stem, inpaint=False) for stem in ("AltDiffusion", "LatentConsistencyModel", "Kolors", "Kandinsky3")),
    *(_usual(stem, inpaint=False) for stem in ("SanaSprint", "StableDiffusion3PAG")),
    *(_combined(stem) for stem in ("Kandinsky", "KandinskyV22")),
    *(_both(stem) for stem in ("BriaFibo2", "DreamLite", "DreamLiteMobile", "Flux2", "Flux2KleinKV", "GlmImage", "ZImageOmni")),
    _both("Flux2Klein", "Flux2KleinInpaintPipeline"),
    _both("FluxKontext", "FluxKontextInpaintPipeline"),
    Painters("IFPipeline", "IFImg2ImgPipeline", "IFInpaintingPipeline"),
    Painters(edit="QwenImageEditPipeline", inpaint="QwenImageEditInpaintPipeline"),
    Painters(inpaint="FluxFillPipeline"),
    *(Painters(f"{stem}Pipeline") for stem in _TEXT_TO_IMAGE.split()),
    *(Painters(edit=f"{stem}Pipeline") for stem in _EDIT.split()),
    *(Painters(vary=f"{stem}Pipeline") for stem in _VARY.split()),
)
VIDEOS: tuple[Filmers, ...] = (
    Filmers("LTXPipeline", "LTXImageToVideoPipeline"),
    Filmers("LTX2Pipeline", "LTX2ImageToVideoPipeline"),
    *(Filmers(f"{stem}Pipeline", f"{stem}Pipeline") for stem in _EITHER_TO_VIDEO.split()),
    *(Filmers(f"{stem}Pipeline") for stem in _TEXT_TO_VIDEO.split()),
    *(Filmers(image=f"{stem}Pipeline") for stem in _IMAGE_TO_VIDEO.split()),
)


def pipeline_class(path: str) -> str:
    """The class that ``model_index.json`` names; empty where there is none that is a plain name."""
    file = Path(path, "model_index.json")
    try:
        content: Any = json.loads(file.read_bytes()) if path and file.stat().st_size <= _MAX_INDEX else None
    except (OSError, ValueError, RecursionError):
        return ""
    name = content.get("_class_name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else ""


def painters_of(name: str) -> Painters | None:
    """The row of the class ``name``."""
    return next((row for row in PICTURES if name in _names(row)), None) if name else None


def filmers_of(name: str) -> Filmers | None:
    """The row of the class ``name``."""
    return next((row for row in VIDEOS if name in _names(row)), None) if name else None


def draws(path: str) -> bool:
    """Whether the pipeline in the folder ``path`` makes pictures or videos."""
    name = pipeline_class(path)
    return painters_of(name) is not None or filmers_of(name) is not None


def verbs_of(name: str) -> frozenset[t.Verb]:
    """What a checkpoint of the class ``name`` can do."""
    verbs: dict[t.Verb, object] = {"generate_image": painters_of(name), "generate_video": filmers_of(name)}
    return frozenset(verb for verb, row in verbs.items() if row is not None)


def _names(row: Painters | Filmers) -> tuple[str, ...]:
    return tuple(getattr(row, field) for field in row.__struct_fields__)
