from __future__ import annotations

import json
import math
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from handlers import deferred
from handlers import types as t
from openai_compat.errors import (
    Cancelled,
    ContextLengthExceeded,
    InvalidRequest,
    ModelUnavailable,
    UnsupportedCapability,
)

PROMPT = "The quick brown fox"


def chat(*texts: str, **fields) -> t.TextRequest:
    roles = ("user", "assistant")
    messages = tuple(t.Message(role=roles[i % 2], parts=(t.TextPart(text=x),)) for i, x in enumerate(texts))
    return t.TextRequest(messages=messages, **fields)


def complete(*prompts: t.Prompt, echo: bool = False, **sampling) -> t.TextRequest:
    settings = {"max_tokens": 12, "temperature": 0.0, "ignore_eos": True, **sampling}
    return t.TextRequest(prompts=prompts or (PROMPT,), echo=echo, sampling=t.Sampling(**settings))


def answer(handler, request: t.TextRequest, ctx) -> t.TextResult:
    request = handler.apply_mode_settings(request)
    handler.validate_inputs(request)
    return deferred.complete(handler.generate_text(request, ctx))


@cache
def plain_model(folder: str):
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)


def reference(handler, ids: list[int], count: int) -> list[int]:
    """Plain ``generate()``, as the library's own users call it."""
    tensor = torch.tensor([ids])
    out = plain_model(handler.spec.path).generate(
        tensor, attention_mask=torch.ones_like(tensor), max_new_tokens=count, do_sample=False, pad_token_id=0, eos_token_id=2
    )
    return out[0, len(ids) :].tolist()


def tokens(handler, request: t.TextRequest, ctx) -> list[int]:
    """The first answer's tokens."""
    raw = handler._engine.submit(
        handler.prepare_inputs(request),
        handler.get_generation_config(request),
        ctx,
        on_piece=lambda piece: None,
        on_end=lambda generation: generation,
    )
    return list(deferred.complete(raw).answers[0][0].tokens)


# ---------------------------------------------------------------- greedy


@pytest.mark.parametrize("prompt", ["The quick", "naïve café 😀", "x"])
def test_greedy_equals_plain_generate_token_for_token(tiny, collector, prompt: str) -> None:
    ids = tiny._lm.vocabulary.tokenizer.encode(prompt)
    request = complete(prompt, max_tokens=40, ignore_eos=False)
    assert tokens(tiny, request, collector()) == reference(tiny, ids, 40)


def test_greedy_is_the_same_with_the_prompt_run_in_chunks(tiny, snapshot, loader, collector) -> None:
    chunked = loader(snapshot, options={"engine": {"step_tokens": 2}})
    assert answer(chunked, complete(), collector()) == answer(tiny, complete(), collector())


def test_stream_and_whole_answer_are_the_same_text(tiny, collector) -> None:
    ctx = collector()
    result = answer(tiny, complete(temperature=1.0, seed=3, n=2, max_tokens=30), ctx)
    for choice in result.choices:
        assert ctx.text(choice.index) == choice.text


# ---------------------------------------------------------------- sampling


def test_the_same_seed_gives_the_same_answer_and_another_another(tiny, collector) -> None:
    def text(seed: int | None) -> str:
        return answer(tiny, complete(temperature=1.5, seed=seed, max_tokens=20), collector()).choices[0].text

    assert text(11) == text(11)
    assert text(11) != text(12)
    assert text(None) != text(None)


def test_a_seeded_choice_is_the_same_alone_and_beside_others(tiny, collector) -> None:
    alone = answer(tiny, complete(temperature=1.2, seed=5), collector()).choices[0].text
    beside = answer(tiny, complete(temperature=1.2, seed=5, n=3), collector())
    assert [c.index for c in beside.choices] == [0, 1, 2]
    assert beside.choices[0].text == alone
    assert len({c.text for c in beside.choices}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 3.0},
        {"top_p": 0.3},
        {"top_k": 2},
        {"min_p": 0.4},
        {"presence_penalty": 2.0},
        {"frequency_penalty": 2.0},
        {"repetition_penalty": 2.0},
        {"logit_bias": {77: 100.0}},
        {"seed": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_sampling_field_changes_the_answer(tiny, collector, change: dict) -> None:
    plain = {"temperature": 1.0, "seed": 1, "max_tokens": 40}
    assert answer(tiny, complete(**plain), collector()) != answer(tiny, complete(**{**plain, **change}), collector())


def test_n_answers_each_of_many_prompts_in_order(tiny, collector) -> None:
    result = answer(tiny, complete("Hello", "The lazy dog", n=2), collector())
    assert [c.index for c in result.choices] == [0, 1, 2, 3]
    single = answer(tiny, complete("The lazy dog"), collector()).choices[0].text
    assert [c.text for c in result.choices[2:]] == [single, single]


def test_best_of_returns_the_likeliest_and_counts_all(tiny, collector) -> None:
    words = dict.fromkeys(tiny._lm.vocabulary.tokenizer.encode(PROMPT), 20.0)
    settings = {"temperature": 2.0, "seed": 4, "max_tokens": 8, "logit_bias": words}
    ctx = collector()
    best = answer(tiny, complete(best_of=5, n=2, logprobs=0, **settings), ctx)
    every = answer(tiny, complete(n=5, logprobs=0, **settings), collector())

    def mean(choice: t.TextChoice) -> float:
        return sum(token.logprob for token in choice.logprobs) / 8

    ranked = sorted(every.choices, key=mean, reverse=True)
    assert [c.text for c in best.choices] == [c.text for c in ranked[:2]]
    assert len({c.text for c in every.choices}) == 5
    assert [c.index for c in best.choices] == [0, 1]
    assert best.usage.completion_tokens == 40
    assert ctx.deltas == []


# ---------------------------------------------------------------- ends


def test_an_answer_that_ran_out_of_tokens_says_length(tiny, collector) -> None:
    result = answer(tiny, complete(max_tokens=3), collector())
    assert result.choices[0].finish_reason == "length"
    assert result.usage.completion_tokens == 3


def test_the_token_that_ends_an_answer_is_counted_and_not_shown(tiny, collector) -> None:
    result = answer(tiny, complete(ignore_eos=False, logit_bias={2: 100.0}), collector())
    assert result.choices[0].text == ""
    assert result.choices[0].finish_reason == "stop"
    assert result.usage.completion_tokens == 1


def test_min_tokens_puts_the_end_off_and_ignore_eos_removes_it(tiny, collector) -> None:
    pushed = {"logit_bias": {2: 50.0}}
    later = answer(tiny, complete(ignore_eos=False, min_tokens=4, **pushed), collector())
    assert (later.usage.completion_tokens, later.choices[0].finish_reason) == (5, "stop")
    never = answer(tiny, complete(ignore_eos=True, max_tokens=6, **pushed), collector())
    assert (never.usage.completion_tokens, never.choices[0].finish_reason) == (6, "length")


def test_a_stop_token_ends_the_answer(tiny, collector) -> None:
    ids = tiny._lm.vocabulary.tokenizer.encode(PROMPT)
    expected = reference(tiny, ids, 6)
    result = answer(tiny, complete(stop_token_ids=(expected[3],)), collector())
    assert result.usage.completion_tokens == expected.index(expected[3]) + 1
    assert result.choices[0].finish_reason == "stop"


def test_a_stop_string_across_tokens_is_never_shown_even_in_part(tiny, collector) -> None:
    free = collector()
    text = answer(tiny, complete(max_tokens=30, temperature=1.0, seed=2), free).choices[0].text
    first, second = (d.text for d in free.deltas[4:6])
    stop = first[-1:] + second[:1]
    ctx = collector()
    result = answer(tiny, complete(max_tokens=30, temperature=1.0, seed=2, stop=(stop,)), ctx)
    assert result.choices[0].text == text[: text.index(stop)]
    assert ctx.text() == result.choices[0].text
    assert result.choices[0].finish_reason == "stop"
    assert result.usage.completion_tokens < 30


def test_a_stop_string_that_only_began_is_shown_at_the_end(tiny, collector) -> None:
    text = answer(tiny, complete(), collector()).choices[0].text
    result = answer(tiny, complete(stop=(text[-1] + "never",)), collector())
    assert result.choices[0].text == text
    assert result.choices[0].finish_reason == "length"


# ---------------------------------------------------------------- log probabilities and echo


def test_logprobs_are_the_models_own_before_any_sampling_parameter(tiny, collector) -> None:
    settings = {"max_tokens": 5, "temperature": 2.0, "seed": 3, "logit_bias": {70: 3.0}, "logprobs": 4}
    choice = answer(tiny, complete(**settings), collector()).choices[0]
    inputs = tiny.prepare_inputs(complete())
    ids = list(inputs[0].ids)
    with torch.no_grad():
        first = torch.log_softmax(plain_model(tiny.spec.path)(torch.tensor([ids])).logits[0, -1].float(), -1)
    top = choice.logprobs[0].top
    assert [entry.logprob for entry in top] == pytest.approx(first.topk(4).values.tolist(), abs=1e-4)
    assert choice.logprobs[0].logprob in [pytest.approx(value, abs=1e-4) for value in first.tolist()]
    assert len(top) == 4


def test_logprobs_cover_the_text_byte_for_byte_with_their_offsets(tiny, collector) -> None:
    ctx = collector()
    words = dict.fromkeys(tiny._lm.vocabulary.tokenizer.encode(PROMPT), 100.0)
    choice = answer(tiny, complete(logprobs=0, max_tokens=20, temperature=1.0, logit_bias=words), ctx).choices[0]
    assert "".join(token.token for token in choice.logprobs) == choice.text
    assert b"".join(token.token_bytes for token in choice.logprobs).decode() == choice.text
    assert [token for d in ctx.deltas for token in d.logprobs] == list(choice.logprobs)
    for token in choice.logprobs:
        assert choice.text[token.text_offset :].startswith(token.token)


def test_echo_repeats_the_prompt_with_its_logprobs(tiny, collector) -> None:
    ctx = collector()
    choice = answer(tiny, complete(echo=True, logprobs=1, max_tokens=4), ctx).choices[0]
    assert choice.text.startswith(PROMPT)
    assert ctx.text() == choice.text
    ids = tiny._lm.vocabulary.tokenizer.encode(PROMPT)
    assert choice.logprobs[0].logprob is None
    with torch.no_grad():
        rows = torch.log_softmax(plain_model(tiny.spec.path)(torch.tensor([ids])).logits[0].float(), -1)
    expected = [rows[i, number].item() for i, number in enumerate(ids[1:])]
    assert [token.logprob for token in choice.logprobs[1 : len(ids)]] == pytest.approx(expected, abs=1e-4)
    assert choice.logprobs[len(ids)].text_offset == len(PROMPT)


def test_a_prompt_is_scored_the_same_in_chunks(tiny, snapshot, loader, collector) -> None:
    whole = answer(tiny, complete(echo=True, logprobs=1, max_tokens=0), collector()).choices[0].logprobs
    small = loader(snapshot, options={"engine": {"step_tokens": 3}})
    chunked = answer(small, complete(echo=True, logprobs=1, max_tokens=0), collector()).choices[0].logprobs
    assert len(chunked) == len(whole)
    assert [x.logprob for x in chunked[1:]] == pytest.approx([x.logprob for x in whole[1:]], abs=1e-4)


def test_echo_without_new_tokens_only_scores_the_prompt(tiny, collector) -> None:
    result = answer(tiny, complete(echo=True, max_tokens=0), collector())
    assert result.choices[0].text == PROMPT
    assert result.usage.completion_tokens == 0


# ---------------------------------------------------------------- prompts, context, refusals


def test_a_prompt_of_token_ids_is_the_same_as_its_text(tiny, collector) -> None:
    ids = tuple(tiny._lm.vocabulary.tokenizer.encode(PROMPT))
    assert answer(tiny, complete(ids), collector()) == answer(tiny, complete(PROMPT), collector())


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"logit_bias": {400: 1.0}}, "logit_bias"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"stop_token_ids": (10**9,)}, "stop_token_ids"),
    ],
)
def test_token_ids_that_the_model_does_not_have_are_refused_by_field(tiny, collector, change: dict, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        answer(tiny, complete(**change), collector())
    assert caught.value.param == param


def test_a_prompt_with_an_unknown_token_id_is_refused(tiny, collector) -> None:
    with pytest.raises(InvalidRequest, match="no token 999") as caught:
        answer(tiny, complete((1, 999)), collector())
    assert caught.value.param == "prompt"


def test_more_tokens_than_the_context_has_left_are_refused_with_all_three_numbers(tiny, collector) -> None:
    count = len(tiny._lm.vocabulary.tokenizer.encode(PROMPT))
    with pytest.raises(ContextLengthExceeded) as caught:
        answer(tiny, complete(max_tokens=96), collector())
    assert caught.value.param == "prompt"
    for number in (96, count, count + 96):
        assert str(number) in caught.value.message
    answer(tiny, complete(max_tokens=96 - count), collector())


def test_without_max_tokens_the_answer_may_fill_the_context(tiny, collector) -> None:
    count = len(tiny._lm.vocabulary.tokenizer.encode(PROMPT))
    result = answer(tiny, complete(max_tokens=None), collector())
    assert result.usage.completion_tokens == 96 - count
    assert result.choices[0].finish_reason == "length"


def test_a_chat_that_fills_the_context_is_refused_by_its_own_field(tiny, collector) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        answer(tiny, chat("fox " * 200), collector())
    assert caught.value.param == "messages"


def test_a_huge_prompt_is_refused_without_tokenizing_it(tiny, collector, monkeypatch) -> None:
    monkeypatch.setattr(tiny._prompts, "_tokenizer", None)
    with pytest.raises(ContextLengthExceeded):
        answer(tiny, complete("x" * 100_000), collector())


def test_a_configured_context_is_honoured_within_the_models_own(loader, snapshot) -> None:
    assert loader(snapshot, context_length=40)._lm.context_length == 40
    assert loader(snapshot, context_length=4000)._lm.context_length == 96


def test_an_empty_prompt_begins_with_the_models_own_token(tiny, collector) -> None:
    result = answer(tiny, complete("", max_tokens=2), collector())
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (1, 2)


def test_pictures_are_refused_by_message(tiny, collector) -> None:
    picture = t.Message(
        role="user", parts=(t.TextPart(text="x"), t.ImagePart(picture=t.Picture(width=1, height=1, pixels=b"abc")))
    )
    with pytest.raises(UnsupportedCapability) as caught:
        answer(tiny, t.TextRequest(messages=(chat("a").messages[0], picture)), collector())
    assert caught.value.param == "messages[1].content"


def test_best_of_above_n_is_not_streamed(tiny, collector) -> None:
    request = t.TextRequest(prompts=("x",), stream=True, sampling=t.Sampling(best_of=3))
    with pytest.raises(InvalidRequest) as caught:
        answer(tiny, request, collector())
    assert caught.value.param == "best_of"


# ---------------------------------------------------------------- cancellation


def test_a_cancelled_request_ends_within_one_step(tiny, collector) -> None:
    ctx = collector(checks=5, error=Cancelled)
    with pytest.raises(Cancelled):
        answer(tiny, complete(max_tokens=60), ctx)
    assert ctx.checks == 6
    assert 3 <= len(ctx.deltas) <= 4  # four steps, of which one may have ended within a code point


def test_a_refused_delta_ends_the_answer_at_once(tiny, collector) -> None:
    ctx = collector(emits=2, error=Cancelled)
    with pytest.raises(Cancelled):
        answer(tiny, complete(max_tokens=60), ctx)
    assert len(ctx.deltas) == 2


def test_a_request_is_cancelled_between_chunks_of_its_prompt(snapshot, loader, collector) -> None:
    ctx = collector(checks=2, error=Cancelled)
    with pytest.raises(Cancelled):
        answer(loader(snapshot, options={"engine": {"step_tokens": 2}}), complete(), ctx)
    assert ctx.deltas == []


def test_the_model_answers_as_before_after_a_cancelled_request(tiny, collector) -> None:
    before = answer(tiny, complete(), collector())
    with pytest.raises(Cancelled):
        answer(tiny, complete(n=3), collector(checks=3, error=Cancelled))
    assert answer(tiny, complete(), collector()) == before


# ---------------------------------------------------------------- loading


def test_loading_tells_how_far_it_is_in_bytes(snapshot, loader) -> None:
    from handlers.transformer import TransformerHandler

    seen: list[tuple[str, int, int]] = []
    handler = TransformerHandler(t.ModelSpec(id="tiny", path=str(snapshot), kind="transformer", device="cpu"))
    handler.load_model(lambda stage, done=0, total=0: seen.append((stage, done, total)))
    size = (snapshot / "model.safetensors").stat().st_size
    assert ("reading the weights", size, size) in seen
    assert handler._lm.threads >= 1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_snapshot_without_one_of_its_files_is_unavailable(snapshot, tmp_path, loader, name: str) -> None:
    copy = Path(shutil.copytree(snapshot, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(ModelUnavailable) as caught:
        loader(copy)
    assert str(tmp_path) not in caught.value.message


def test_pickled_weights_are_not_loaded(snapshot, tmp_path, loader) -> None:
    copy = Path(shutil.copytree(snapshot, tmp_path / "copy"))
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable):
        loader(copy)


def test_missing_weights_are_not_made_up(snapshot, tmp_path, loader) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(snapshot, tmp_path / "copy"))
    weights = load_file(copy / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelUnavailable, match="missing"):
        loader(copy)


def test_a_device_that_is_not_there_is_named(snapshot, loader) -> None:
    with pytest.raises(ModelUnavailable, match="cuda:63"):
        loader(snapshot, device="cuda:63")


def test_the_configured_dtype_is_used(snapshot, loader) -> None:
    assert loader(snapshot, dtype="bfloat16")._lm.model.dtype == torch.bfloat16
    assert loader(snapshot)._lm.model.dtype == torch.float32


def test_the_models_own_wishes_hold_where_the_client_says_nothing(snapshot, tmp_path, loader) -> None:
    copy = Path(shutil.copytree(snapshot, tmp_path / "copy"))
    wishes = {"temperature": 0.25, "top_p": 0.5, "do_sample": True, "repetition_penalty": 1.1, "eos_token_id": [2, 0]}
    (copy / "generation_config.json").write_text(json.dumps(wishes))
    handler = loader(copy)
    config = handler.get_generation_config(t.TextRequest(prompts=("x",), sampling=t.Sampling(top_p=0.9)))
    assert (config.temperature, config.top_p, config.repetition_penalty) == (0.25, 0.9, 1.1)
    assert config.stop_ids == {0, 2}


@pytest.mark.parametrize(
    "wishes",
    [
        {"temperature": "warm", "top_p": 7, "top_k": 0.5},
        {"temperature": float("nan"), "top_p": -1, "repetition_penalty": 0},
        {"temperature": -1.0, "min_p": 5, "repetition_penalty": float("inf")},
        {"temperature": [1], "top_k": -1},
    ],
)
def test_wishes_that_make_no_sense_are_not_followed(snapshot, tmp_path, loader, wishes) -> None:
    copy = Path(shutil.copytree(snapshot, tmp_path / "copy"))
    (copy / "generation_config.json").write_text(json.dumps(wishes))
    config = loader(copy).get_generation_config(t.TextRequest(prompts=("x",)))
    assert (config.temperature, config.top_p, config.top_k, config.min_p, config.repetition_penalty) == (1.0, 1.0, 0, 0.0, 1.0)


def test_a_checkpoint_of_another_architecture_has_no_capability(tmp_path) -> None:
    from handlers.transformer import TransformerHandler

    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    spec = t.ModelSpec(id="x", path=str(tmp_path), kind="transformer")
    assert TransformerHandler.get_model_capabilities(spec) == frozenset()
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    assert TransformerHandler.get_model_capabilities(spec) == {"generate_text", "tokenize_text"}


# ---------------------------------------------------------------- the real model


def test_the_real_model_knows_the_capital_of_france(smollm2, collector) -> None:
    request = chat("What is the capital of France?", sampling=t.Sampling(temperature=0.0, max_tokens=20))
    result = answer(smollm2, request, collector())
    assert result.choices[0].text == "The capital of France is Paris."
    assert result.choices[0].finish_reason == "stop"


def test_the_real_model_streams_whole_emoji(smollm2, collector) -> None:
    ctx = collector()
    request = chat("Write ten emoji.", sampling=t.Sampling(temperature=1.0, seed=1, max_tokens=40))
    answer(smollm2, request, ctx)
    assert not any("�" in delta.text for delta in ctx.deltas)


def test_an_unlikely_answer_has_a_finite_logprob(tiny, collector) -> None:
    choice = answer(tiny, complete(logit_bias={5: 100.0}, logprobs=0, max_tokens=1), collector()).choices[0]
    assert all(math.isfinite(token.logprob) and token.logprob < 0 for token in choice.logprobs)


def test_an_operators_sampling_is_the_default_and_a_request_wins(snapshot: Path, loader) -> None:
    handler = loader(snapshot, options={"sampling": {"temperature": 0.25, "top_k": 7}})
    assert handler.get_generation_config(t.TextRequest(prompts=("a",))).temperature == 0.25
    asked = t.TextRequest(prompts=("a",), sampling=t.Sampling(temperature=0.5))
    assert (handler.get_generation_config(asked).temperature, handler.get_generation_config(asked).top_k) == (0.5, 7)


@pytest.mark.parametrize("sampling", [{"temprature": 1}, {"temperature": 9}, {"top_k": "many"}])
def test_sampling_options_that_make_no_sense_keep_the_model_from_loading(
    snapshot: Path, loader, sampling: dict[str, object]
) -> None:
    with pytest.raises(ModelUnavailable, match=r"options\.sampling"):
        loader(snapshot, options={"sampling": sampling})
