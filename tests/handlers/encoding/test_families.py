"""Roles by configuration: each family has checkpoints of different roles."""

import json

import pytest

from handlers.encoding.families import VERBS, role_of
from handlers.registry import detect
from openai_compat.errors import ModelUnavailable

ROLES = [
    ({"model_type": "bert", "architectures": ["BertModel"]}, "text"),
    ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "text"),
    ({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}, "rank"),
    ({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}, "classify"),
    ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, "classify"),
    ({"model_type": "bert", "architectures": ["BertForSequenceClassification"], "problem_type": "regression"}, None),
    ({"model_type": "bert", "architectures": ["BertForTokenClassification"]}, None),
    ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaForSequenceClassification"], "num_labels": 1}, "rank"),
    ({"model_type": "qwen3", "architectures": ["Qwen3Model"]}, "text"),
    ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, None),
    ({"model_type": "t5", "architectures": ["T5EncoderModel"]}, "text"),
    ({"model_type": "clip", "architectures": ["CLIPModel"]}, "towers"),
    ({"model_type": "clip_text_model", "architectures": ["CLIPTextModelWithProjection"]}, "text_tower"),
    ({"model_type": "clip_vision_model", "architectures": ["CLIPVisionModelWithProjection"]}, "image_tower"),
    ({"model_type": "siglip", "architectures": ["SiglipModel"]}, "towers"),
    ({"model_type": "siglip_vision_model", "architectures": ["SiglipVisionModel"]}, "image_tower"),
    ({"model_type": "vits", "architectures": ["VitsModel"]}, None),
    ({"model_type": "bert"}, None),
    ([], None),
]


@pytest.mark.parametrize(("config", "role"), ROLES)
def test_the_role_is_told_by_the_configuration(tmp_path, config, role):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert role_of(str(tmp_path)) == role


@pytest.mark.parametrize(("config", "role"), [(config, role) for config, role in ROLES if role])
def test_the_kind_is_detected(tmp_path, config, role):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert detect(str(tmp_path)) == ("classifier" if role == "classify" else "embedding")
    assert VERBS[role]


def test_a_causal_model_embeds_only_with_the_layout_of_sentence_transformers(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}))
    assert detect(str(tmp_path)) == "transformer"
    (tmp_path / "modules.json").write_text("[]")
    assert detect(str(tmp_path)) == "embedding"


def test_what_tells_numbers_is_nothing_to_serve(tmp_path):
    config = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], "problem_type": "regression"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnavailable):
        detect(str(tmp_path))
