"""Chats with pictures in them: what is looked at and for, and what the answer looks like."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlers import types as t
from handlers.deferred import complete
from handlers.seeing.chat import MOST_LABELS, labels_of, pictures_of
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate.findings import worded


def user(*parts: str | t.Picture) -> t.Message:
    made = tuple(t.TextPart(text=part) if isinstance(part, str) else t.ImagePart(picture=part) for part in parts)
    return t.Message(role="user", parts=made)


def chat(*messages: t.Message, **fields: Any) -> t.TextRequest:
    return t.TextRequest(messages=messages, **fields)


@pytest.fixture
def told(looking, collector):
    """The text and the usage that a tiny model answers a chat with."""

    def ask(name: str, request: t.TextRequest, **changes: Any) -> tuple[str, t.Usage]:
        handler = looking(name, **changes).handler
        request = handler.apply_mode_settings(request)
        handler.validate_inputs(request)
        result = worded(complete(handler.process_multimodal(request, collector())), "tiny")
        assert result.choices[0].finish_reason == "stop"
        return result.choices[0].text, result.usage

    return ask


def test_one_picture_is_answered_with_an_object(told, looking, picture) -> None:
    text, usage = told("detr", chat(user("What is this?", picture())))
    answer = json.loads(text)
    found = looking("detr")(picture())
    assert (answer["object"], answer["model"]) == ("vision.detection", "tiny")
    assert (answer["width"], answer["height"]) == (97, 61)
    assert [label["label"] for label in answer["labels"]] == [label.label for label in found.labels]
    assert [list(label["box"].values()) for label in answer["labels"]] == [
        pytest.approx(list(label.box), abs=0.01) for label in found.labels
    ]
    assert usage == t.Usage(prompt_tokens=0)  # a network of convolutions makes no patches


def test_several_pictures_are_answered_with_a_list_in_their_order(told, looking, picture) -> None:
    one, two = picture(40, 40, 1), picture(50, 30, 2)
    text, usage = told("vit", chat(user(one, "and", two)))
    answer = json.loads(text)
    assert answer["object"] == "list"
    assert [(item["width"], item["height"]) for item in answer["data"]] == [(40, 40), (50, 30)]
    expected = [looking("vit")(one).labels[0], looking("vit")(two).labels[0]]
    assert [item["labels"][0]["label"] for item in answer["data"]] == [label.label for label in expected]
    assert usage.prompt_tokens == 2 * (32 // 8) ** 2


def test_masks_are_run_lengths(told, picture) -> None:
    answer = json.loads(told("segformer", chat(user(picture())))[0])
    assert answer["object"] == "vision.segmentation"
    assert all(label["mask"]["size"] == [61, 97] for label in answer["labels"])


def test_depths_are_a_picture_of_16_bits(told, looking, picture) -> None:
    answer = json.loads(told("glpn", chat(user(picture())))[0])
    depth = answer["depth"]
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(depth["data"]))), dtype=np.float64)
    values = read / 65535 * (depth["max"] - depth["min"]) + depth["min"]
    exact = np.frombuffer(looking("glpn")(picture()).values, dtype="<f4").reshape(61, 97)
    assert answer["metric"] is True
    assert np.abs(values - exact).max() <= (depth["max"] - depth["min"]) / 65535


def test_labels_are_named_in_the_text(told, picture) -> None:
    answer = json.loads(told("clip", chat(user("cat, a dog\ntree", picture())))[0])
    assert {label["label"] for label in answer["labels"]} == {"cat", "a dog", "tree"}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat", ("cat",)),
        (" a cat ;a dog,, tree \n house,a dog", ("a cat", "a dog", "tree", "house")),
        ('["a cat, asleep", "dog"]', ("a cat, asleep", "dog")),
        ("[brackets], dog", ("[brackets]", "dog")),
    ],
)
def test_labels_stand_between_commas_or_in_a_json_list(text: str, labels: tuple[str, ...]) -> None:
    assert labels_of(chat(user(text))) == labels


def test_labels_are_those_of_the_last_text_and_pictures_the_last_there_are(picture) -> None:
    first, second = picture(8, 8, 1), picture(8, 8, 2)
    request = chat(user(first, "cat"), user(second, "dog"), t.Message(role="assistant", parts=()), user("bird"))
    assert pictures_of(request) == (second,)
    assert labels_of(request) == ("bird",)


@pytest.mark.parametrize("text", ["", " , ;", "x" * 300, ",".join(map(str, range(MOST_LABELS + 1)))])
def test_labels_that_are_none_or_too_many_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="looks for what the text names"):
        labels_of(chat(user(text)))


def test_a_chat_without_a_picture_is_refused(looking) -> None:
    handler = looking("vit").handler
    with pytest.raises(InvalidRequest, match="a picture"):
        handler.apply_mode_settings(chat(user("What?")))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": t.Sampling(n=2)}, "n"),
        ({"sampling": t.Sampling(logprobs=0)}, "logprobs"),
        ({"grammar": t.GrammarSpec(kind="json_schema", source="{}")}, "response_format"),
        ({"tools": (t.Tool(name="f"),), "tool_choice": t.ToolChoice(mode="required")}, "tool_choice"),
    ],
)
def test_what_one_json_text_cannot_be_is_refused(told, picture, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        told("vit", chat(user(picture()), **fields))
    assert refused.value.param == param


def test_an_object_is_what_the_answer_is_anyway(told, picture) -> None:
    text, _ = told("vit", chat(user(picture()), grammar=t.GrammarSpec(kind="json_object")))
    assert json.loads(text)["object"] == "vision.classification"


@pytest.mark.parametrize(
    ("name", "mode", "found"),
    [
        ("vit", "auto", "vision.classification"),
        ("detr", "auto", "vision.detection"),
        ("vit", "classify", "vision.classification"),
        ("clip", "classify", "vision.classification"),
        ("yolos", "detect", "vision.detection"),
        ("detr_segmentation", "detect", "vision.detection"),
        ("detr_segmentation", "segment", "vision.segmentation"),
        ("segformer", "segment", "vision.segmentation"),
        ("dpt", "depth", "vision.depth"),
        ("glpn", "depth", "vision.depth"),
    ],
)
def test_each_mode_does_its_task(told, picture, name: str, mode: str, found: str) -> None:
    assert json.loads(told(name, chat(user("cat, dog", picture()), mode=mode))[0])["object"] == found


def test_a_mode_that_the_model_lacks_is_refused(told, picture) -> None:
    with pytest.raises(InvalidRequest) as refused:
        told("detr_segmentation", chat(user(picture()), mode="depth"))
    assert refused.value.param == "mode"
