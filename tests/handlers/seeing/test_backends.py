"""Every family against the library's own pipeline, or its own post-processing, on the same weights: number by number."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from handlers import types as t
from handlers.pixels import to_pil
from handlers.seeing import segment
from openai_compat.errors import APIError, InvalidRequest, UnsupportedCapability, UnsupportedParameter

LABELS = ("cat", "a dog", "tree")


def pipeline_of(look: Any, task: str, **parts: Any) -> Any:
    """The library's pipeline around the same model and processors."""
    from transformers import pipeline

    backend = look.handler._backend
    return pipeline(task, model=backend.model, image_processor=backend.processor, device="cpu", **parts)


def whole(box: t.Box) -> list[int]:
    return [int(edge) for edge in box]


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_classifiers_give_the_pipeline_s_scores(looking, picture, name: str) -> None:
    look = looking(name)
    expected = pipeline_of(look, "image-classification")(to_pil(picture()), top_k=3)
    found = look(picture(), task="classify", top_k=3)
    assert [label.label for label in found.labels] == [one["label"] for one in expected]
    assert [label.score for label in found.labels] == pytest.approx([one["score"] for one in expected], abs=1e-6)
    assert len(look(picture(), threshold=expected[1]["score"] - 1e-6).labels) == 2


@pytest.mark.parametrize("name", ["detr", "conditional_detr", "yolos", "rt_detr"])
def test_detectors_find_the_pipeline_s_boxes(looking, picture, name: str) -> None:
    look = looking(name)
    expected = pipeline_of(look, "object-detection")(to_pil(picture()), threshold=0.2)
    expected.sort(key=lambda one: -one["score"])
    found = look(picture(), threshold=0.2).labels
    assert len(found) == len(expected) > 1
    assert [label.label for label in found] == [one["label"] for one in expected]
    assert [label.score for label in found] == pytest.approx([one["score"] for one in expected], abs=1e-5)
    for label, one in zip(found, expected, strict=True):
        left, top, right, bottom = (one["box"][edge] for edge in ("xmin", "ymin", "xmax", "ymax"))
        assert whole(label.box) == pytest.approx([max(0, left), max(0, top), min(97, right), min(61, bottom)], abs=1)
    assert look(picture(), threshold=0.2, top_k=1).labels == found[:1]


@pytest.mark.parametrize("name", ["segformer", "beit"])
def test_semantic_segmenters_draw_the_pipeline_s_masks(looking, picture, name: str) -> None:
    look = looking(name)
    expected = {one["label"]: one["mask"].tobytes() for one in pipeline_of(look, "image-segmentation")(to_pil(picture()))}
    found = look(picture(), task="segment").labels
    assert {label.label: label.mask.pixels for label in found} == expected
    assert [label.score for label in found] == sorted((label.score for label in found), reverse=True)
    assert all(0 < label.score <= 1 for label in found)
    assert len(look(picture(), threshold=found[0].score).labels) == 1


@pytest.mark.parametrize("name", ["mask2former", "maskformer", "detr_segmentation"])
@pytest.mark.parametrize("kind", ["panoptic", "instance", "semantic"])
def test_segmenters_by_queries_draw_the_pipeline_s_masks(looking, picture, name: str, kind: str) -> None:
    look = looking(name, options={"segmentation": kind})
    told = {"subtask": kind, "threshold": 0.3}
    expected = pipeline_of(look, "image-segmentation")(to_pil(picture()), **told)
    found = look(picture(), task="segment", threshold=0.0 if kind == "semantic" else 0.3).labels
    wanted = sorted((one["label"], one["mask"].tobytes()) for one in expected if one["mask"].getbbox())
    assert sorted((label.label, label.mask.pixels) for label in found) == wanted
    assert wanted
    if kind != "semantic":
        scores = sorted(one["score"] for one in expected if one["mask"].getbbox())
        assert sorted(label.score for label in found) == pytest.approx(scores, abs=1e-5)


def test_without_being_told_a_segmenter_does_what_the_pipeline_does(looking, picture) -> None:
    look = looking("mask2former")
    expected = pipeline_of(look, "image-segmentation")(to_pil(picture()), threshold=0.5)
    found = look(picture(), threshold=0.5).labels
    assert sorted(label.mask.pixels for label in found) == sorted(one["mask"].tobytes() for one in expected)


def test_the_box_of_a_segment_is_that_of_its_mask(looking, picture) -> None:
    for label in looking("segformer")(picture()).labels:
        assert label.mask is not None
        left, top, right, bottom = whole(label.box)
        rows = [label.mask.pixels[y * 97 : y * 97 + 97] for y in range(61)]
        assert [y for y, row in enumerate(rows) if any(row)][:: max(1, bottom - top - 1)][0] == top
        assert any(rows[bottom - 1])
        assert not any(any(row) for row in (*rows[:top], *rows[bottom:]))
        assert not any(row[x] for row in rows for x in (*range(left), *range(right, 97)))


def test_a_detecting_segmenter_does_both(looking, picture) -> None:
    look = looking("detr_segmentation")
    boxes = look(picture(), task="detect", threshold=0.2)
    assert boxes.task == "detect"
    assert boxes.labels
    assert all(label.mask is None for label in boxes.labels)
    assert look(picture(), threshold=0.3).task == "segment"


@pytest.mark.parametrize(("name", "metric"), [("dpt", False), ("glpn", True), ("depth_anything", True), ("zoedepth", True)])
def test_depths_are_the_pipeline_s(looking, picture, monkeypatch, name: str, metric: bool) -> None:
    look = looking(name)
    if name == "zoedepth":
        _lend_torchvision(look.handler._backend.processor, monkeypatch)
    expected = pipeline_of(look, "depth-estimation")(to_pil(picture()))["predicted_depth"]
    found = look(picture(), task="depth")
    assert (found.width, found.height, found.metric) == (97, 61, metric)
    values = memoryview(found.values).cast("f").tolist()
    assert values == pytest.approx(expected.flatten().tolist(), rel=1e-4, abs=1e-5)
    assert max(values) > min(values)


def _lend_torchvision(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library takes ZoeDepth's margin off with torchvision's resizing, which for tensors is torch's own."""
    from torch.nn.functional import interpolate

    def resize(depth: Any, *, size: list[int], interpolation: str, antialias: bool) -> Any:
        return interpolate(depth[None], size=size, mode=interpolation, antialias=antialias)[0]

    lent = SimpleNamespace(resize=resize, InterpolationMode=SimpleNamespace(BICUBIC="bicubic"))
    monkeypatch.setattr(sys.modules[type(processor).__module__], "tvF", lent, raising=False)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_any_labels_are_ranked_as_the_pipeline_ranks_them(looking, picture, name: str) -> None:
    look = looking(name)
    ask = pipeline_of(look, "zero-shot-image-classification", tokenizer=look.handler._backend._tokenizer)
    for template in ("This is a photo of {}.", "{}"):
        look = looking(name, options={"label_template": template})
        expected = ask(to_pil(picture()), candidate_labels=list(LABELS), hypothesis_template=template)
        found = look(picture(), labels=LABELS).labels
        assert [label.label for label in found] == [one["label"] for one in expected]
        assert [label.score for label in found] == pytest.approx([one["score"] for one in expected], abs=1e-6)


@pytest.mark.parametrize("name", ["owlvit", "owlv2"])
def test_things_of_any_label_are_found_as_the_library_finds_them(looking, picture, name: str) -> None:
    import torch

    look = looking(name)
    both = look.handler._backend._both
    inputs = both(text=[list(LABELS)], images=[to_pil(picture())], return_tensors="pt")
    with torch.inference_mode():
        output = look.handler._backend.model(**inputs)
    expected = both.post_process_grounded_object_detection(output, 0.1, torch.tensor([[61, 97]]), [list(LABELS)])[0]
    order = expected["scores"].argsort(descending=True, stable=True).tolist()
    found = look(picture(), labels=LABELS).labels
    assert [label.score for label in found] == pytest.approx(expected["scores"][order].tolist(), abs=1e-6)
    assert {label.label for label in found} == set(expected["text_labels"])
    boxes = expected["boxes"].clamp(torch.zeros(4), torch.tensor([97.0, 61, 97, 61]))[order]
    assert [edge for label in found for edge in label.box] == pytest.approx(boxes.flatten().tolist(), abs=1e-3)


def test_phrases_are_found_as_the_library_finds_them(looking, picture) -> None:
    import torch

    look = looking("grounding_dino")
    both = look.handler._backend._both
    inputs = both(text=["cat. a dog. tree."], images=[to_pil(picture())], return_tensors="pt")
    with torch.inference_mode():
        output = look.handler._backend.model(**inputs)
    expected = both.image_processor.post_process_object_detection(output, 0.1, torch.tensor([[61, 97]]))[0]
    found = look(picture(), labels=LABELS, threshold=0.1).labels
    assert sorted(label.score for label in found) == pytest.approx(sorted(expected["scores"].tolist()), abs=1e-5)
    assert found
    assert {label.label for label in found} <= set(LABELS)


def test_a_phrase_owns_its_tokens_and_the_stop_behind_them(looking) -> None:
    backend = looking("grounding_dino").handler._backend
    ids = backend.words(("cat", "a dog"), 1)["input_ids"][0].tolist()
    assert len(ids) == 1 + 3 + 1 + 4 + 1 + 1
    assert backend._owners(ids) == [0] * 5 + [1] * 5 + [2]
    with pytest.raises(InvalidRequest, match="longer than"):
        backend.words(("cat", "x" * 200, "dog"), 1)


# ---------------------------------------------------------------- pictures of all sizes


def test_boxes_are_in_pixels_of_the_picture_that_was_sent(looking, picture) -> None:
    look = looking("detr")
    small = picture()
    sent = t.Picture(width=97, height=61, pixels=small.pixels, full_width=970, full_height=610)
    for label, large in zip(look(small, threshold=0.2).labels, look(sent, threshold=0.2).labels, strict=True):
        assert large.score == label.score
        assert large.box == pytest.approx([edge * 10 for edge in label.box], abs=1e-2)


def test_boxes_stay_within_the_picture(looking, picture) -> None:
    boxes = [label.box for label in looking("conditional_detr")(picture(), threshold=0.0).labels]
    assert boxes
    assert all(0 <= left <= right <= 97 and 0 <= top <= bottom <= 61 for left, top, right, bottom in boxes)


def test_masks_that_would_take_too_much_memory_are_made_smaller(looking, picture, monkeypatch) -> None:
    look = looking("segformer")
    exact = {label.label: label for label in look(picture()).labels}
    monkeypatch.setattr(segment, "MOST_NUMBERS", 4 * 97 * 61 // 4)
    small = {label.label: label for label in look(picture()).labels}
    for label in small.values():
        assert (label.mask.width, label.mask.height) == (48, 30)
        assert label.mask.full_size == (97, 61)
    large = [label for label in exact.values() if label.mask.pixels.count(255) > 1000]
    assert large
    assert all(small[label.label].box == pytest.approx(label.box, abs=4) for label in large)


@pytest.mark.parametrize("name", ["vit", "resnet", "detr", "yolos", "segformer", "mask2former", "dpt", "glpn", "owlv2"])
@pytest.mark.parametrize("size", [(1, 1), (300, 2), (3, 500)])
def test_strange_proportions_are_answered_or_refused(looking, picture, name: str, size: tuple[int, int]) -> None:
    look = looking(name)
    with suppress(InvalidRequest):
        found = look(picture(*size), labels=LABELS if name == "owlv2" else ())
        assert isinstance(found, t.LabelResult | t.DepthResult)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pictures_are_seen_in_colour(looking, channels: int) -> None:
    look = looking("vit")
    seen = look(t.Picture(width=8, height=8, pixels=bytes([90] * (64 * channels)), channels=channels))
    assert seen == look(t.Picture(width=8, height=8, pixels=bytes([90] * (64 * 3))))


# ---------------------------------------------------------------- together


@pytest.mark.parametrize("name", ["vit", "detr", "segformer", "mask2former", "dpt", "clip", "owlv2"])
def test_pictures_together_are_answered_as_alone(looking, picture, collector, name: str) -> None:
    """Different sizes, so that some of them cannot share a forward."""
    look = looking(name)
    pictures = [picture(97, 61, 1), picture(97, 61, 2), picture(64, 64, 3), picture(97, 61, 4)]
    fields: dict[str, Any] = {"labels": LABELS if name in ("clip", "owlv2") else (), "threshold": 0.2}
    alone = [look(one, **fields) for one in pictures]
    waiting = [look.handler.process_image(t.ImageTaskRequest(picture=one, **fields), collector()) for one in pictures]
    forwards: list[int] = []
    run = look.handler._backend.model.forward
    look.handler._backend.model.forward = lambda **inputs: forwards.append(len(inputs["pixel_values"])) or run(**inputs)
    while any(one.poll() is None for one in waiting):
        waiting[0].driver.step()
    assert max(forwards) >= 3
    for one, other in zip(alone, (deferred.poll() for deferred in waiting), strict=True):
        _alike(one, other)


def _alike(one: Any, other: Any) -> None:
    if isinstance(one, t.DepthResult):
        assert memoryview(one.values).cast("f").tolist() == pytest.approx(memoryview(other.values).cast("f").tolist(), abs=1e-2)
        return
    assert [label.label for label in one.labels] == [label.label for label in other.labels]
    assert [label.score for label in one.labels] == pytest.approx([label.score for label in other.labels], abs=1e-4)


def test_other_labels_are_another_batch(looking, picture, collector) -> None:
    look = looking("clip")
    first = look.handler.process_image(t.ImageTaskRequest(picture=picture(), labels=("cat", "dog")), collector())
    second = look.handler.process_image(t.ImageTaskRequest(picture=picture(), labels=("tree",)), collector())
    while first.poll() is None or second.poll() is None:
        first.driver.step()
    assert {label.label for label in first.poll().labels} == {"cat", "dog"}
    assert {label.label for label in second.poll().labels} == {"tree"}


def test_a_picture_that_cannot_be_prepared_fails_alone(looking, picture, collector, monkeypatch) -> None:
    look = looking("vit")
    prepare = look.handler._backend.prepare
    monkeypatch.setattr(
        look.handler._backend, "prepare", lambda image, view: prepare(image, view) if image.width > 9 else 1 / 0
    )
    good, bad = (look.handler.process_image(t.ImageTaskRequest(picture=picture(w, 9)), collector()) for w in (20, 5))
    good.driver.step()
    assert good.poll().labels
    with pytest.raises(InvalidRequest, match="picture of this size"):
        bad.poll()


def test_numbers_that_are_none_are_a_failure(looking, picture) -> None:
    look = looking("vit")
    look.handler._backend.model.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(APIError, match="failed"):
        look(picture())


# ---------------------------------------------------------------- what is refused


def test_a_task_that_the_model_lacks_is_refused(looking, picture) -> None:
    with pytest.raises(UnsupportedCapability, match="cannot segment; it can detect") as refused:
        looking("detr")(picture(), task="segment")
    assert refused.value.param == "model"
    with pytest.raises(UnsupportedCapability, match="cannot classify; it can estimate depths"):
        looking("dpt")(picture(), task="classify")


def test_a_mode_must_go_with_the_task(looking, picture) -> None:
    with pytest.raises(InvalidRequest) as refused:
        looking("detr_segmentation")(picture(), task="segment", mode="detect")
    assert refused.value.param == "mode"
    with pytest.raises(InvalidRequest, match="no mode 'depth'") as refused:
        looking("vit")(picture(), mode="depth")
    assert refused.value.param == "mode"


def test_labels_are_for_those_who_take_any(looking, picture) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        looking("vit")(picture(), labels=("cat",))
    assert refused.value.param == "labels"
    with pytest.raises(InvalidRequest, match="labels to look for") as missing:
        looking("clip")(picture())
    assert missing.value.param == "labels"
