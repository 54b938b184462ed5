"""What the committed models reach on pictures and captions that they never learnt from: ``python -m training.shapes.figures``.

Every function takes a model's folder and loads it as anybody would; the numbers are shares from 0 to 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct, structs

from training.shapes.data import Picture, crowds, mask, singles
from training.shapes.learning import Log, as_batch
from training.shapes.measure import Seen, look
from training.shapes.scenes import COLOURS, KINDS, LOOKED_AT, PAINTED, UPRIGHT, Combination, Scene, combinations

Box: TypeAlias = tuple[str, tuple[float, ...]]
BATCH = 53
TEST_SEED = 1_000_000


class Painted(Struct, frozen=True, kw_only=True):
    """What was asked for, what was painted, and what the pixels say."""

    scene: Scene
    picture: Picture
    seen: Seen


def held_out() -> tuple[Combination, ...]:
    """All that the painter never saw, combinations of seen pairs and unseen pairs in turn."""
    old, new = combinations("held_out"), combinations("unseen_pairs")
    mixed = [one for both in zip(old, new, strict=False) for one in both]
    return (*mixed, *new[len(old) :], *old[len(new) :])


def paint(folder: Path, count: int) -> Iterator[Painted]:
    """``count`` pictures of held-out captions in turn, each of its own seed, with the pipeline's own defaults."""
    import torch
    from diffusers import StableDiffusionPipeline

    from training.shapes.painter import DEFAULTS

    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [scene for scene, _ in singles(TEST_SEED, count, held_out(), PAINTED)]
    for start in range(0, count, BATCH):
        part = scenes[start : start + BATCH]
        seeds = [torch.Generator().manual_seed(TEST_SEED + start + index) for index in range(len(part))]
        captions = [scene.caption for scene in part]
        for scene, picture in zip(part, pipeline(captions, generator=seeds, output_type="np", **DEFAULTS).images, strict=True):
            pixels = np.rint(picture * 255).astype(np.uint8)
            yield Painted(scene=scene, picture=pixels, seen=look(pixels))


def painter(folder: Path, count: int = 212) -> dict[str, float]:
    """Share of pictures whose background, whose colour, whose kind is right, and all three; on seen and on unseen pairs."""
    done = list(paint(folder, count))
    unseen = [one for one in done if _combination(one.scene) in combinations("unseen_pairs")]
    return {
        "background": _share(one.seen.background == one.scene.background for one in done),
        "colour": _share(one.seen.colour == one.scene.shapes[0].colour for one in done),
        "shape": _share(one.seen.kind == one.scene.shapes[0].kind for one in done),
        "all": _share(one.seen.is_right(one.scene) for one in done),
        "all, unseen pairs": _share(one.seen.is_right(one.scene) for one in unseen),
    }


def _combination(scene: Scene) -> Combination:
    return scene.shapes[0].colour, scene.shapes[0].kind, scene.background


def _share(rights: Iterator[bool]) -> float:
    return float(np.mean(list(rights)))


def classifier(folder: Path, count: int = 424) -> dict[str, float]:
    """Share of pictures whose first label is right."""
    import torch
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder)
    made = singles(TEST_SEED, count, combinations("labelled_held_out"), LOOKED_AT)
    with torch.no_grad():
        best = model(as_batch([picture for _, picture in made])).logits.argmax(-1)
    names = [model.config.id2label[int(index)] for index in best]
    return {"accuracy": _share(name == scene.label for name, (scene, _) in zip(names, made, strict=True))}


def unknown() -> tuple[Combination, ...]:
    return (*combinations("held_out"), *combinations("unseen_pairs"))


def clip(folder: Path, count: int = 424) -> dict[str, float]:
    """Share of pictures to which, of eight captions that differ in one thing, the right one is nearest."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    made = singles(TEST_SEED, count, unknown(), UPRIGHT)
    captions = [caption for scene, _ in made for caption in (scene.caption, *islice(wrong_captions(scene), 7))]
    with torch.no_grad():
        words = model.get_text_features(**tokenizer(captions, padding=True, return_tensors="pt")).pooler_output
        seen = model.get_image_features(pixel_values=as_batch([picture for _, picture in made])).pooler_output
    words = torch.nn.functional.normalize(words, dim=-1).view(count, 8, -1)
    best = torch.einsum("pcd,pd->pc", words, seen).argmax(1)
    return {"top-1 of 8": float((best == 0).float().mean())}


def wrong_captions(scene: Scene) -> Iterator[str]:
    """The nearest ones: another kind, another colour, another background; seven and more."""
    shape = scene.shapes[0]
    others = [colour for colour in COLOURS if colour not in (shape.colour, scene.background)]
    for kind in KINDS:
        if kind != shape.kind:
            yield structs.replace(scene, shapes=(structs.replace(shape, kind=kind),)).caption
    for colour, ground in zip(others, reversed(others), strict=True):
        yield structs.replace(scene, shapes=(structs.replace(shape, colour=colour),)).caption
        yield structs.replace(scene, background=ground).caption


def detector(folder: Path, count: int = 212) -> dict[str, float]:
    """Mean overlap of true boxes with the best found one of their kind, 0 where there is none; share of right boxes."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    model, processor = AutoModelForObjectDetection.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    made = crowds(TEST_SEED, count, unknown())
    with torch.no_grad():
        found = model(**processor([picture for _, picture in made], return_tensors="pt"))
    results = processor.post_process_object_detection(found, threshold=0.5, target_sizes=[(64, 64)] * count)
    pairs = [
        ([(shape.kind, shape.box()) for shape in scene.shapes], [(KINDS[label], box) for label, box in _found(result)])
        for (scene, _), result in zip(made, results, strict=True)
    ]
    recall = [overlap for true, boxes in pairs for overlap in _best(true, boxes)]
    precision = [overlap > 0.5 for true, boxes in pairs for overlap in _best(boxes, true)]
    return {"mean IoU": float(np.mean(recall)), "right boxes": float(np.mean(precision)) if precision else 0.0}


def _found(result: Any) -> list[tuple[int, tuple[float, ...]]]:
    return list(zip(result["labels"].tolist(), map(tuple, result["boxes"].tolist()), strict=True))


def _best(boxes: Sequence[Box], others: Sequence[Box]) -> list[float]:
    """For each box the overlap with that of ``others`` which fits it best."""
    return [max((iou(box, other) for label, other in others if label == kind), default=0.0) for kind, box in boxes]


def iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The part of two boxes' area that both have."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


def segmenter(folder: Path, count: int = 212) -> dict[str, float]:
    """Mean over the classes of the overlap of all their pixels."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    model, processor = AutoModelForSemanticSegmentation.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
    made = crowds(TEST_SEED, count, unknown())
    with torch.no_grad():
        found = model(**processor([picture for _, picture in made], return_tensors="pt"))
    classes = np.stack(processor.post_process_semantic_segmentation(found, target_sizes=[(64, 64)] * count))
    true = np.stack([mask(scene) for scene, _ in made])
    overlaps = [((classes == c) & (true == c)).sum() / ((classes == c) | (true == c)).sum() for c in range(len(KINDS) + 1)]
    return {"mean IoU": float(np.mean(overlaps))}


FIGURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "painter": painter,
    "clip": clip,
    "classifier": classifier,
    "detector": detector,
    "segmenter": segmenter,
}


def main() -> None:
    from training.shapes.__main__ import BUNDLED, MODELS

    parser = argparse.ArgumentParser(prog="python -m training.shapes.figures", description=__doc__)
    parser.add_argument("--only", choices=FIGURES, nargs="+", default=list(FIGURES), help="which to measure")
    parser.add_argument("--models", type=Path, default=BUNDLED, help="where the models' folders are")
    parser.add_argument("--log", type=Path, help="a file to add the figures to")
    chosen = parser.parse_args()
    for name in chosen.only:
        figures = ", ".join(f"{what} {value:.3f}" for what, value in FIGURES[name](chosen.models / MODELS[name]).items())
        print(f"{name}: {figures}") if chosen.log is None else Log(chosen.log)(f"{name}: {figures}")


if __name__ == "__main__":
    main()
