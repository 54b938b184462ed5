"""Small random models of each family that sees, by name; ``save`` writes one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = {0: "cat", 1: "dog", 2: "tree", 3: "house"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
OWL_WORDS, GROUNDING_WORDS = 16, 64
END = 4 + len(LETTERS)


def save(name: str, folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    model, processors = MAKERS[name]()
    model.save_pretrained(folder)
    for processor in processors:
        processor.save_pretrained(folder)


# ---------------------------------------------------------------- classification


def vit() -> tuple[Any, list[Any]]:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    config = ViTConfig(image_size=32, patch_size=8, initializer_range=0.3, id2label=NAMES, **_TRANSFORMER)
    return ViTForImageClassification(config), [ViTImageProcessorPil(size={"height": 32, "width": 32})]


def resnet() -> tuple[Any, list[Any]]:
    """Several things may be right at once, and the pictures keep their proportions until they are cut."""
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(**_RESNET, id2label=NAMES, problem_type="multi_label_classification")
    return ResNetForImageClassification(config), [ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.8)]


_TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}

# ---------------------------------------------------------------- detection

_DETR = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 6,
    "init_std": 0.5,
    "id2label": NAMES,
}


def _backbone(**changes: Any) -> Any:
    from transformers import ResNetConfig

    return ResNetConfig(**_RESNET, out_features=["stage2"], **changes)


def detr() -> tuple[Any, list[Any]]:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil

    config = DetrConfig(**_DETR, backbone_config=_backbone())
    return DetrForObjectDetection(config), [DetrImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 96})]


def conditional_detr() -> tuple[Any, list[Any]]:
    from transformers import ConditionalDetrConfig, ConditionalDetrForObjectDetection, ConditionalDetrImageProcessorPil

    config = ConditionalDetrConfig(**_DETR, backbone_config=_backbone())
    return ConditionalDetrForObjectDetection(config), [
        ConditionalDetrImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 96})
    ]


def yolos() -> tuple[Any, list[Any]]:
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    config = YolosConfig(
        image_size=[48, 64], patch_size=16, num_detection_tokens=6, initializer_range=0.3, id2label=NAMES, **_TRANSFORMER
    )
    return YolosForObjectDetection(config), [YolosImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 96})]


def rt_detr() -> tuple[Any, list[Any]]:
    """One size for every picture, and likelihoods that do not exclude one another."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessorPil, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=16,
        encoder_in_channels=[8, 16, 16],
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_in_channels=[16, 16, 16],
        d_model=16,
        decoder_ffn_dim=32,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_queries=8,
        num_denoising=0,
        initializer_range=0.3,
        initializer_bias_prior_prob=0.3,
        id2label=NAMES,
    )
    return RTDetrForObjectDetection(config), [RTDetrImageProcessorPil(size={"height": 64, "width": 64})]


# ---------------------------------------------------------------- segmentation


def segformer() -> tuple[Any, list[Any]]:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        initializer_range=0.3,
        id2label=NAMES,
    )
    return SegformerForSemanticSegmentation(config), [SegformerImageProcessorPil(size={"height": 64, "width": 64})]


def beit() -> tuple[Any, list[Any]]:
    from transformers import BeitConfig, BeitForSemanticSegmentation, BeitImageProcessorPil

    config = BeitConfig(
        **{**_TRANSFORMER, "num_hidden_layers": 4},
        image_size=64,
        patch_size=16,
        out_indices=[1, 2, 3, 4],
        pool_scales=[1, 2],
        use_auxiliary_head=False,
        use_relative_position_bias=True,
        initializer_range=0.3,
        id2label=NAMES,
    )
    return BeitForSemanticSegmentation(config), [BeitImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)]


def _swin() -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        initializer_range=0.2,
    )


def _spread(model: Any) -> Any:
    """Random weights as they come are sure of nothing, and then no mask counts."""
    import torch

    with torch.no_grad():
        model.class_predictor.weight.mul_(60)
        for name, parameter in model.named_parameters():
            if "mask_embedder" in name:
                parameter.mul_(2)
    return model


def mask2former() -> tuple[Any, list[Any]]:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

    config = Mask2FormerConfig(
        backbone_config=_swin(),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=6,
        id2label=NAMES,
    )
    return _spread(Mask2FormerForUniversalSegmentation(config)), [
        Mask2FormerImageProcessorPil(size={"height": 64, "width": 64})
    ]


def maskformer() -> tuple[Any, list[Any]]:
    import torch
    from transformers import DetrConfig, MaskFormerConfig, MaskFormerForInstanceSegmentation, MaskFormerImageProcessorPil

    torch.manual_seed(2)
    config = MaskFormerConfig(
        backbone_config=_swin(),
        decoder_config=DetrConfig(**{**_DETR, "d_model": 32}, backbone_config=_backbone()),
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label=NAMES,
    )
    return _spread(MaskFormerForInstanceSegmentation(config)), [MaskFormerImageProcessorPil(size={"height": 64, "width": 64})]


def detr_segmentation() -> tuple[Any, list[Any]]:
    from transformers import DetrConfig, DetrForSegmentation, DetrImageProcessorPil, ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = DetrConfig(
        **{**_DETR, "d_model": 64, "encoder_attention_heads": 8, "decoder_attention_heads": 8}, backbone_config=backbone
    )
    return DetrForSegmentation(config), [DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128})]


# ---------------------------------------------------------------- depth


def dpt() -> tuple[Any, list[Any]]:
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

    config = DPTConfig(
        **{**_TRANSFORMER, "num_hidden_layers": 4},
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
        initializer_range=0.2,
    )
    return DPTForDepthEstimation(config), [DPTImageProcessorPil(size={"height": 64, "width": 64})]


def glpn() -> tuple[Any, list[Any]]:
    """Metres."""
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessorPil

    config = GLPNConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        initializer_range=0.3,
    )
    return GLPNForDepthEstimation(config), [GLPNImageProcessorPil()]


def depth_anything() -> tuple[Any, list[Any]]:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessorPil

    backbone = Dinov2Config(
        **{**_TRANSFORMER, "num_hidden_layers": 4},
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
        initializer_range=0.2,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=20,
    )
    processor = DPTImageProcessorPil(size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14)
    return DepthAnythingForDepthEstimation(config), [processor]


def zoedepth() -> tuple[Any, list[Any]]:
    """Metres; it pads pictures, and cuts the padding off its depths."""
    from transformers import BeitConfig, ZoeDepthConfig, ZoeDepthForDepthEstimation, ZoeDepthImageProcessorPil

    backbone = BeitConfig(
        **{**_TRANSFORMER, "num_hidden_layers": 4},
        image_size=64,
        patch_size=16,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        use_relative_position_bias=True,
        initializer_range=0.3,
    )
    config = ZoeDepthConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        bottleneck_features=16,
        num_relative_features=8,
        bin_embedding_dim=16,
        num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
        num_patch_transformer_layers=1,
        patch_transformer_hidden_size=16,
        patch_transformer_intermediate_size=32,
        patch_transformer_num_attention_heads=2,
    )
    return ZoeDepthForDepthEstimation(config), [ZoeDepthImageProcessorPil(size={"height": 64, "width": 64})]


# ---------------------------------------------------------------- labels of the request


def _tokenizer(length: int, **special: str) -> Any:
    """Every letter is a token."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[START]", "[UNK]", ".", *LETTERS, "[END]"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[START] $A [END]", special_tokens=[("[START]", 1), ("[END]", END)]
    )
    tokens = {"pad_token": "[PAD]", "bos_token": "[START]", "eos_token": "[END]", "unk_token": "[UNK]", **special}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=length, model_input_names=["input_ids", "attention_mask"], **tokens
    )


_WORDS = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END}


def clip() -> tuple[Any, list[Any]]:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    config = CLIPConfig(
        text_config={**_TRANSFORMER, **_WORDS, "max_position_embeddings": 64, "initializer_range": 0.3},
        vision_config={**_TRANSFORMER, "image_size": 32, "patch_size": 8, "initializer_range": 0.3},
        projection_dim=16,
    )
    size = {"shortest_edge": 32}
    return CLIPModel(config), [CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}), _tokenizer(64)]


def siglip() -> tuple[Any, list[Any]]:
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel

    config = SiglipConfig(
        text_config={**_TRANSFORMER, **_WORDS, "max_position_embeddings": 64, "projection_size": 32},
        vision_config={**_TRANSFORMER, "image_size": 32, "patch_size": 8},
    )
    return SiglipModel(config), [SiglipImageProcessorPil(size={"height": 32, "width": 32}), _tokenizer(64)]


def _owl(config: Any, model: Any, processor: Any) -> tuple[Any, list[Any]]:
    from transformers import Owlv2Processor, OwlViTProcessor

    made = config(
        text_config={**_TRANSFORMER, **_WORDS, "max_position_embeddings": OWL_WORDS, "initializer_range": 0.3},
        vision_config={**_TRANSFORMER, "image_size": 64, "patch_size": 16, "initializer_range": 0.3},
        projection_dim=32,
    )
    kind = Owlv2Processor if "Owlv2" in config.__name__ else OwlViTProcessor
    return model(made), [kind(image_processor=processor, tokenizer=_tokenizer(OWL_WORDS))]


def owlvit() -> tuple[Any, list[Any]]:
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessorPil

    size = {"height": 64, "width": 64}
    return _owl(
        OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessorPil(size=size, crop_size=size, do_center_crop=False)
    )


def owlv2() -> tuple[Any, list[Any]]:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil

    return _owl(Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil(size={"height": 64, "width": 64}))


def grounding_dino() -> tuple[Any, list[Any]]:
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
    )

    config = GroundingDinoConfig(
        backbone_config=_swin(),
        text_config=BertConfig(**_TRANSFORMER, vocab_size=40, max_position_embeddings=GROUNDING_WORDS),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=8,
        max_text_len=GROUNDING_WORDS,
        init_std=0.5,
    )
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    tokenizer = _tokenizer(GROUNDING_WORDS, cls_token="[START]", sep_token="[END]")
    return GroundingDinoForObjectDetection(config), [GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer)]


MAKERS: dict[str, Callable[[], tuple[Any, list[Any]]]] = {
    make.__name__: make
    for make in (
        *(vit, resnet, detr, conditional_detr, yolos, rt_detr, segformer, beit, mask2former, maskformer, detr_segmentation),
        *(dpt, glpn, depth_anything, zoedepth, clip, siglip, owlvit, owlv2, grounding_dino),
    )
}
