"""What a model's files, and the operator, say about making a vector."""

import json

import pytest

from handlers.encoding.layout import Dense, Layout, read_layout
from handlers.encoding.options import EmbeddingOptions
from handlers.encoding.prompts import prompt_for
from handlers.loading import options_of
from handlers.types import EmbedRequest, ModelSpec
from openai_compat.errors import InvalidRequest, ModelUnavailable

MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    return tmp_path


def write(folder, name: str, content: object) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def modules(*pairs: tuple[str, str]) -> list[dict]:
    return [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in pairs]


def layout(folder, **options) -> Layout:
    return read_layout(folder, EmbeddingOptions(**options))


def test_a_model_that_says_nothing_is_averaged_and_normalised(folder):
    assert layout(folder) == Layout(pooling=("mean",), steps=("normalize",))


def test_a_decoder_that_says_nothing_gives_its_last_token(folder):
    write(folder, "config.json", {"model_type": "qwen3"})
    assert layout(folder).pooling == ("lasttoken",)


def test_the_files_of_sentence_transformers_are_followed(folder):
    kinds = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Normalize", "3_Normalize")
    write(folder, "modules.json", modules(*kinds))
    write(folder, "1_Pooling/config.json", {**MEAN, "include_prompt": False})
    write(folder, "2_Dense/config.json", {"activation_function": "torch.nn.modules.linear.Identity"})
    (folder / "2_Dense" / "model.safetensors").touch()
    write(folder, "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": True})
    prompts = {"query": "query: ", "document": ""}
    write(folder, "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": "document"})
    assert layout(folder) == Layout(
        pooling=("mean",),
        include_prompt=False,
        steps=(Dense(folder="2_Dense", activation="Identity"), "normalize"),
        max_tokens=256,
        lower_case=True,
        strip=True,
        prompts=prompts,
        default_prompt="document",
    )


def test_what_the_operator_says_wins(folder):
    write(folder, "config_sentence_transformers.json", {"prompts": {"a": "b"}, "default_prompt_name": "a"})
    found = layout(folder, pooling="cls", normalize=False, prompts={"query": "q: "}, default_prompt="query", matryoshka=(8, 16))
    assert (found.pooling, found.steps, found.prompts) == (("cls",), (), {"query": "q: "})
    assert (found.default_prompt, found.matryoshka) == ("query", (8, 16))


@pytest.mark.parametrize(
    ("config", "told", "allowed"),
    [
        ({}, {}, False),
        ({"matryoshka_dimensions": [32, 64]}, {}, (32, 64)),
        ({"is_matryoshka": True}, {}, True),
        ({}, {"truncate_dim": 64}, True),
        ({"is_matryoshka": "yes"}, {"truncate_dim": "64"}, False),
    ],
)
def test_vectors_may_be_cut_where_the_files_say_so(folder, config, told, allowed):
    write(folder, "config.json", config)
    write(folder, "config_sentence_transformers.json", told)
    assert layout(folder).matryoshka == allowed


@pytest.mark.parametrize(
    "entries",
    [
        [],
        "text",
        [1],
        [{"type": "x.Transformer"}],
        modules(("Pooling", "1_Pooling")),
        modules(("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")),
        modules(("Transformer", ""), ("Pooling", "../1_Pooling")),
        modules(("Transformer", ""), ("Pooling", "/etc")),
        modules(("Transformer", ""), ("LSTM", "1_LSTM")),
        modules(("Transformer", ""), ("Normalize", "1"), ("Pooling", "2")),
        modules(("Transformer", ""), ("Pooling", "1"), ("Pooling", "2")),
        modules(("Transformer", ""), *[("Normalize", "")] * 20),
    ],
)
def test_modules_that_cannot_be_followed_are_refused(folder, entries):
    write(folder, "modules.json", entries)
    with pytest.raises(ModelUnavailable, match=r"modules\.json"):
        layout(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("1_Pooling/config.json", {}),
        ("1_Pooling/config.json", {"pooling_mode": "attention"}),
        ("2_Dense/config.json", {"activation_function": "os.system"}),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Tanh"}),
    ],
)
def test_parts_that_are_unknown_or_missing_are_refused(folder, name, content):
    write(folder, "modules.json", modules(("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")))
    write(folder, "1_Pooling/config.json", MEAN)
    write(folder, name, content)
    with pytest.raises(ModelUnavailable):
        layout(folder)


@pytest.mark.parametrize("options", [{"pooling": "best"}, {"matryoshka": [0]}, {"tokenids": "native"}, {"batch_tokens": 0}])
def test_an_option_that_cannot_be_is_refused(options):
    with pytest.raises(ModelUnavailable, match="options of 'm' cannot be used"):
        options_of(ModelSpec(id="m", path="", kind="embedding", options=options), EmbeddingOptions)


PROMPTED = Layout(
    pooling=("mean",), prompts={"query": "query: ", "passage": "passage: ", "sts": "same: "}, default_prompt="sts"
)


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, "same: "),
        ({"mode": "auto"}, "same: "),
        ({"mode": "query"}, "query: "),
        ({"input_type": "document"}, "passage: "),
        ({"input_type": "query", "mode": "document"}, "query: "),
        ({"prompt_name": "sts", "input_type": "query"}, "same: "),
    ],
)
def test_the_prompt_is_chosen_by_name_then_type_then_mode(fields, prompt):
    assert prompt_for(EmbedRequest(texts=("a",), **fields), PROMPTED) == prompt


def test_a_model_without_prompts_treats_both_sides_alike_and_refuses_names():
    plain = Layout(pooling=("mean",))
    assert prompt_for(EmbedRequest(texts=("a",), input_type="query"), plain) == ""
    with pytest.raises(InvalidRequest) as caught:
        prompt_for(EmbedRequest(texts=("a",), prompt_name="sts"), plain)
    assert caught.value.param == "prompt_name"
