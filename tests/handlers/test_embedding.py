"""The embedding handler from request to result: token ids, limits, prompts, lengths of vectors, company and cancellation."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoTokenizer

from handlers import types as t
from handlers.deferred import complete
from handlers.embedding import EmbeddingHandler
from openai_compat.errors import InvalidRequest, ModelUnavailable

CL100K_HELLO_WORLD = (15339, 1917)


def request(*texts: t.Prompt, **fields) -> t.EmbedRequest:
    return t.EmbedRequest(texts=texts, **fields)


def embed(handler: EmbeddingHandler, collector, *texts: t.Prompt, **fields) -> torch.Tensor:
    wanted = request(*texts, **fields)
    handler.validate_inputs(wanted)
    vectors = complete(handler.embed_text(wanted, collector())).vectors
    return torch.stack([torch.frombuffer(bytearray(vector), dtype=torch.float32) for vector in vectors])


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_text_has_the_same_vector_alone_and_in_company(tiny_encoder, sentences, collector):
    tickets = [tiny_encoder.embed_text(request(*sentences), collector()) for _ in range(3)]
    tickets.append(tiny_encoder.embed_text(request(sentences[1]), collector()))
    results = [complete(ticket) for ticket in tickets]
    close(
        torch.frombuffer(bytearray(results[-1].vectors[0]), dtype=torch.float32),
        torch.frombuffer(bytearray(results[0].vectors[1]), dtype=torch.float32),
    )
    assert results[0].usage == results[1].usage


def test_waiting_requests_join_one_forward(tiny_encoder, sentences, collector, monkeypatch):
    sizes = []
    run = tiny_encoder._batcher._run
    monkeypatch.setattr(tiny_encoder._batcher, "_run", lambda lane, inputs: (sizes.append(len(inputs)), run(lane, inputs))[1])
    tickets = [tiny_encoder.embed_text(request(*sentences), collector()) for _ in range(4)]
    for ticket in tickets:
        complete(ticket)
    assert sizes == [16]


# ---------------------------------------------------------------- token ids


def test_ids_of_cl100k_are_decoded_and_read_anew(tiny_encoder, collector):
    close(embed(tiny_encoder, collector, CL100K_HELLO_WORLD), embed(tiny_encoder, collector, "hello world"))


def test_native_ids_are_run_as_they_are(encoder_saver, embedding_loader, collector, tmp_path):
    handler = embedding_loader(encoder_saver(tmp_path), options={"token_ids": "native"})
    ids = tuple(AutoTokenizer.from_pretrained(tmp_path)("hello world")["input_ids"])
    close(embed(handler, collector, ids), embed(handler, collector, "hello world"))
    for wrong in ((10**6,), (1,) * 100):
        with pytest.raises(InvalidRequest) as caught:
            embed(handler, collector, wrong)
        assert caught.value.param == "input"


def test_ids_are_refused_where_the_operator_says(encoder_saver, embedding_loader, collector, tmp_path):
    handler = embedding_loader(encoder_saver(tmp_path), options={"token_ids": "reject"})
    with pytest.raises(InvalidRequest, match="takes no token ids"):
        embed(handler, collector, CL100K_HELLO_WORLD)


# ---------------------------------------------------------------- limits


def test_a_text_that_is_too_long_is_refused_by_default(tiny_encoder, collector):
    with pytest.raises(InvalidRequest, match="40 tokens, but item 1 of 'input' has 62") as caught:
        embed(tiny_encoder, collector, "fox", "fox " * 60)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")


def test_truncation_is_the_request_s_or_the_operator_s_wish(encoder_saver, embedding_loader, collector, tmp_path):
    strict = embedding_loader(encoder_saver(tmp_path))
    whole = embed(strict, collector, "fox " * 38)
    close(embed(strict, collector, "fox " * 60, truncate=True), whole)
    handler = embedding_loader(tmp_path, options={"truncate": True})
    close(embed(handler, collector, "fox " * 60), whole)
    with pytest.raises(InvalidRequest):
        embed(handler, collector, "fox " * 60, truncate=False)


def test_the_limit_is_the_file_s_and_the_operator_may_change_it(encoder_saver, embedding_loader, collector, tmp_path):
    folder = encoder_saver(tmp_path)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 10}))
    assert EmbeddingHandler.analyze(t.ModelSpec(id="x", path=str(folder), kind="embedding")).context_length == 10
    with pytest.raises(InvalidRequest):
        embed(embedding_loader(folder), collector, "fox " * 20)
    embed(embedding_loader(folder, context_length=30), collector, "fox " * 20)
    with pytest.raises(InvalidRequest):
        embed(embedding_loader(folder, context_length=3000), collector, "fox " * 50)


def test_a_document_that_is_too_long_to_rank_is_refused_or_cut(tiny_ranker, collector):
    long = t.RankRequest(query="fox", documents=("world", "fox " * 60))
    with pytest.raises(InvalidRequest) as caught:
        tiny_ranker.rank_text(long, collector())
    assert caught.value.param == "documents"
    cut = t.RankRequest(query="fox", documents=("world", "fox " * 60), truncate=True)
    assert len(complete(tiny_ranker.rank_text(cut, collector())).scores) == 2


# ---------------------------------------------------------------- prompts and lengths


def test_prompts_go_before_the_text(encoder_saver, embedding_loader, collector, tmp_path):
    handler = embedding_loader(encoder_saver(tmp_path), options={"prompts": {"query": "query: ", "passage": "passage: "}})
    close(embed(handler, collector, "fox", input_type="query"), embed(handler, collector, "query: fox"))
    close(embed(handler, collector, "fox", mode="document"), embed(handler, collector, "passage: fox"))
    close(embed(handler, collector, (15339,), prompt_name="query"), embed(handler, collector, "query: hello"))


def test_a_vector_is_cut_and_brought_back_to_length_one(encoder_saver, embedding_loader, collector, tmp_path):
    handler = embedding_loader(encoder_saver(tmp_path), options={"matryoshka": [8, 16]})
    whole, cut = embed(handler, collector, "fox"), embed(handler, collector, "fox", dimensions=8)
    close(cut, whole[:, :8] / whole[:, :8].norm())
    close(embed(handler, collector, "fox", dimensions=32), whole)
    with pytest.raises(InvalidRequest, match="8, 16, 32") as caught:
        embed(handler, collector, "fox", dimensions=12)
    assert caught.value.param == "dimensions"


@pytest.mark.parametrize("dimensions", [1, 16, 33])
def test_a_model_that_cannot_be_cut_says_so(tiny_encoder, collector, dimensions):
    with pytest.raises(InvalidRequest, match="can have 32 alone") as caught:
        embed(tiny_encoder, collector, "fox", dimensions=dimensions)
    assert caught.value.param == "dimensions"


def test_a_model_s_own_cut_is_its_usual_length(encoder_saver, embedding_loader, collector, tmp_path):
    folder = encoder_saver(tmp_path)
    whole = embed(embedding_loader(folder), collector, "fox")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"truncate_dim": 8}))
    cut = embed(embedding_loader(folder), collector, "fox")
    close(cut, whole[:, :8] / whole[:, :8].norm())


# ---------------------------------------------------------------- the model's files


def test_missing_weights_are_no_model(encoder_saver, embedding_loader, tmp_path):
    folder = encoder_saver(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ModelUnavailable, match="missing"):
        embedding_loader(folder)


def test_problems_of_the_layout_are_told_before_loading(encoder_saver, tmp_path):
    folder = encoder_saver(tmp_path)
    spec = t.ModelSpec(id="x", path=str(folder), kind="embedding")
    assert EmbeddingHandler.validate_model_files(spec) == ()
    (folder / "modules.json").write_text("[]")
    (problem,) = EmbeddingHandler.validate_model_files(spec)
    assert problem.startswith("modules.json: ")


def test_the_estimate_has_no_cache_in_it(encoder_saver, tmp_path):
    found = EmbeddingHandler.analyze(t.ModelSpec(id="x", path=str(encoder_saver(tmp_path)), kind="embedding"))
    assert found.load_bytes < 400 * 2**20
    assert found.capabilities == ("embed_text", "tokenize_text")


def test_minilm_knows_what_is_alike(minilm_folder, embedding_loader, collector):
    handler = embedding_loader(minilm_folder, dtype="auto")
    happy, dog, rain = embed(handler, collector, "That is a happy person", "That is a happy dog", "The weather is awful today")
    assert happy @ dog > 0.6 > 0.3 > happy @ rain
    known, plain = embed(embedding_loader(minilm_folder), collector, "This is an example sentence", "That is a happy person")
    assert known[:4].tolist() == pytest.approx([0.06766, 0.06350, 0.04871, 0.07930], abs=1e-4)  # from the model's card
    assert happy @ plain > 0.9999
