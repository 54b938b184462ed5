"""Vectors against the plain computation of the transformers library on the same weights, number by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, T5EncoderModel

from handlers import types as t
from handlers.deferred import complete

FAMILIES = (
    "albert",
    "bert",
    "camembert",
    "convbert",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "modernbert",
    "mpnet",
    "nomic_bert",
    "roberta",
    "t5",
    "xlm-roberta",
)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def tensors(result: t.EmbedResult) -> torch.Tensor:
    return torch.stack([torch.frombuffer(bytearray(vector), dtype=torch.float32) for vector in result.vectors])


def embed(handler, collector, *texts: str, **fields) -> torch.Tensor:
    return tensors(complete(handler.embed_text(t.EmbedRequest(texts=texts, **fields), collector())))


def hidden(folder: Path, text: str, kind=AutoModel) -> torch.Tensor:
    """The last layer of one text, alone, without padding."""
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
    model = kind.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(input_ids=ids).last_hidden_state[0]


def places(states: torch.Tensor) -> torch.Tensor:
    return torch.arange(1.0, len(states) + 1)[:, None]


def unit(vector: torch.Tensor) -> torch.Tensor:
    return vector / vector.norm()


def write_layout(folder: Path, *modules: tuple[str, str, dict], **settings) -> None:
    entries = [("Transformer", "", {}), *modules]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path, _) in enumerate(entries)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    for _, path, config in modules:
        (folder / path).mkdir(exist_ok=True)
        (folder / path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_encoder_is_averaged_and_normalised(encoder_saver, embedding_loader, sentences, collector, tmp_path, family):
    folder = encoder_saver(tmp_path, family)
    found = embed(embedding_loader(folder), collector, *sentences)
    kind = T5EncoderModel if family == "t5" else AutoModel
    wanted = torch.stack([unit(hidden(folder, text, kind).mean(0)) for text in sentences])
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_a_decoder_gives_the_vector_of_its_last_token(encoder_saver, embedding_loader, sentences, collector, tmp_path):
    folder = encoder_saver(tmp_path, "qwen3", head="Qwen3Model")
    found = embed(embedding_loader(folder), collector, *sentences)
    torch.testing.assert_close(found, torch.stack([unit(hidden(folder, text)[-1]) for text in sentences]), **CLOSE)
    assert AutoTokenizer.from_pretrained(folder)("hello")["input_ids"][-1] == 3


@pytest.mark.parametrize(("family", "head"), [("bert", "BertForMaskedLM"), ("roberta", "RobertaForMaskedLM")])
def test_a_checkpoint_with_a_head_for_masked_words_embeds_too(
    encoder_saver, embedding_loader, collector, tmp_path, family, head
):
    folder = encoder_saver(tmp_path, family, head=head)
    (found,) = embed(embedding_loader(folder), collector, "the fox")
    torch.testing.assert_close(found, unit(hidden(folder, "the fox").mean(0)), **CLOSE)


def test_an_end_token_is_appended_where_the_operator_says(encoder_saver, embedding_loader, collector, tmp_path):
    folder = encoder_saver(tmp_path, "qwen3", head="Qwen3Model")
    (found,) = embed(embedding_loader(folder, options={"append_eos": True}), collector, "the fox")
    (wanted,) = embed(embedding_loader(folder), collector, "the fox [SEP]")
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_a_causal_checkpoint_with_a_sentence_transformers_layout_embeds(encoder_saver, embedding_loader, collector, tmp_path):
    folder = encoder_saver(tmp_path, "qwen3", head="Qwen3ForCausalLM")
    write_layout(folder, ("Pooling", "1_Pooling", {"pooling_mode_lasttoken": True}), ("Normalize", "2_Normalize", {}))
    (found,) = embed(embedding_loader(folder), collector, "the fox")
    torch.testing.assert_close(found, unit(hidden(folder, "the fox")[-1]), **CLOSE)


@pytest.mark.parametrize(
    ("mode", "reduce"),
    [
        ("pooling_mode_cls_token", lambda h: h[0]),
        ("pooling_mode_max_tokens", lambda h: h.amax(0)),
        ("pooling_mode_mean_tokens", lambda h: h.mean(0)),
        ("pooling_mode_mean_sqrt_len_tokens", lambda h: h.sum(0) / len(h) ** 0.5),
        ("pooling_mode_weightedmean_tokens", lambda h: (h * places(h)).sum(0) / places(h).sum()),
        ("pooling_mode_lasttoken", lambda h: h[-1]),
    ],
)  # fmt: skip
def test_each_pooling_is_followed_and_nothing_is_normalised_unasked(
    encoder_saver, embedding_loader, sentences, collector, tmp_path, mode, reduce
):
    folder = encoder_saver(tmp_path)
    write_layout(folder, ("Pooling", "1_Pooling", {mode: True}))
    found = embed(embedding_loader(folder), collector, *sentences)
    wanted = torch.stack([reduce(hidden(folder, text)) for text in sentences])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_poolings_are_joined_and_dense_layers_applied(encoder_saver, embedding_loader, sentences, collector, tmp_path):
    folder = encoder_saver(tmp_path)
    dense = {"in_features": 64, "out_features": 8, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    pooling = {"pooling_mode": ["cls", "mean"]}
    write_layout(folder, ("Pooling", "1_Pooling", pooling), ("Dense", "2_Dense", dense), ("Normalize", "3_Normalize", {}))
    torch.manual_seed(1)
    weight, bias = torch.randn(8, 64), torch.randn(8)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    found = embed(embedding_loader(folder), collector, *sentences)
    states = [hidden(folder, text) for text in sentences]
    wanted = torch.stack([unit(torch.tanh(weight @ torch.cat([h[0], h.mean(0)]) + bias)) for h in states])
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_the_operator_may_choose_pooling_and_normalisation(encoder_saver, embedding_loader, collector, tmp_path):
    folder = encoder_saver(tmp_path)
    (found,) = embed(embedding_loader(folder, options={"pooling": "cls", "normalize": False}), collector, "the fox")
    torch.testing.assert_close(found, hidden(folder, "the fox")[0], **CLOSE)


def test_a_prompt_that_is_not_pooled_leaves_its_tokens_out(encoder_saver, embedding_loader, collector, tmp_path):
    folder = encoder_saver(tmp_path)
    pooling = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    write_layout(folder, ("Pooling", "1_Pooling", pooling), prompts={"query": "query: "})
    (found,) = embed(embedding_loader(folder), collector, "the fox", prompt_name="query")
    prompt = AutoTokenizer.from_pretrained(folder)("query: ")["input_ids"]
    torch.testing.assert_close(found, hidden(folder, "query: the fox")[len(prompt) - 1 :].mean(0), **CLOSE)


def test_a_cross_encoder_scores_as_the_library_does(encoder_saver, embedding_loader, sentences, collector, tmp_path):
    folder = encoder_saver(tmp_path, head="BertForSequenceClassification", num_labels=1)
    handler = embedding_loader(folder)
    request = t.RankRequest(query="the lazy fox", documents=sentences)
    found = complete(handler.rank_text(request, collector()))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()
    pairs = [tokenizer("the lazy fox", document, return_tensors="pt") for document in sentences]
    with torch.no_grad():
        wanted = [torch.sigmoid(model(**pair).logits)[0, 0].item() for pair in pairs]
    assert found.scores == pytest.approx(wanted, rel=1e-4)
    assert found.usage.prompt_tokens == sum(pair["input_ids"].shape[1] for pair in pairs)
    assert len({round(score, 4) for score in wanted}) == len(wanted)


@pytest.mark.parametrize("family", ["roberta", "modernbert", "deberta-v2"])
def test_cross_encoders_of_other_families_score_too(encoder_saver, embedding_loader, sentences, collector, tmp_path, family):
    heads = {"roberta": "Roberta", "modernbert": "ModernBert", "deberta-v2": "DebertaV2"}
    folder = encoder_saver(tmp_path, family, head=f"{heads[family]}ForSequenceClassification", num_labels=1, type_vocab_size=2)
    handler = embedding_loader(folder)
    together = complete(handler.rank_text(t.RankRequest(query="fox", documents=sentences), collector()))
    alone = [complete(handler.rank_text(t.RankRequest(query="fox", documents=(one,)), collector())) for one in sentences]
    assert together.scores == pytest.approx([result.scores[0] for result in alone], rel=1e-4)
    assert all(0 < score < 1 for score in together.scores)


def test_a_broken_number_fails_its_own_request_alone(encoder_saver, embedding_loader, collector, tmp_path, sentences):
    handler = embedding_loader(encoder_saver(tmp_path))
    model = handler._model.lanes["text"].__self__._model
    weight = model.embeddings.word_embeddings.weight
    broken = AutoTokenizer.from_pretrained(tmp_path)("fox", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        weight[broken] = float("nan")
    good = handler.embed_text(t.EmbedRequest(texts=("hello world",)), collector())
    bad = handler.embed_text(t.EmbedRequest(texts=("fox hello",)), collector())
    handler._batcher.step()
    assert good.poll() is not None
    with pytest.raises(Exception, match="failed"):
        bad.poll()
