"""Models that keep their past in other ways decode like the library's own loop: one answer or several, in chunks or whole."""

from __future__ import annotations

import pytest
import torch
import transformers

from handlers import types as t
from handlers.decoding.prefill import can_prefill

SIZES = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "eos_token_id": 2,
    "bos_token_id": None,
    "pad_token_id": 0,
    "initializer_range": 0.4,
}
PROMPT = "The quick brown fox jumps over the lazy dog"


def config(name: str) -> transformers.PreTrainedConfig:
    match name:
        case "sliding window":
            layers = ["sliding_attention", "full_attention"]
            return transformers.Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=8, layer_types=layers)
        case "experts":
            return transformers.MixtralConfig(**SIZES, num_local_experts=2)
        case "state space":
            return transformers.MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=8, eos_token_id=2)
        case "convolution":
            return transformers.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"])
        case _:
            return transformers.GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=96, eos_token_id=2)


@pytest.fixture(scope="module", params=["sliding window", "experts", "state space", "convolution", "absolute positions"])
def handler(request, tmp_path_factory, saver, loader):
    folder = saver(tmp_path_factory.mktemp("model"))
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config(request.param)).save_pretrained(folder)
    loaded = loader(folder)
    assert can_prefill(loaded._lm.model) == (request.param not in ("state space", "convolution"))
    return loaded


def answers(handler, ctx, **sampling) -> list[str]:
    settings = t.Sampling(temperature=0.0, max_tokens=12, ignore_eos=True, **sampling)
    return [c.text for c in handler.generate_text(t.TextRequest(prompts=(PROMPT,), sampling=settings), ctx).choices]


def test_greedy_equals_plain_generate(handler, collector) -> None:
    ids = torch.tensor([handler._lm.vocabulary.tokenizer.encode(PROMPT)])
    plain = handler._lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0
    )
    ours = handler._engine.run(
        handler.prepare_inputs(t.TextRequest(prompts=(PROMPT,), sampling=t.Sampling(max_tokens=12)))[0],
        handler.get_generation_config(t.TextRequest(prompts=(PROMPT,), sampling=t.Sampling(temperature=0.0, ignore_eos=True))),
        first=0,
        ctx=collector(),
        emit=lambda piece: None,
    )
    assert list(ours[0].tokens) == plain[0, ids.shape[1] :].tolist()


def test_several_answers_and_chunks_change_nothing(handler, collector, monkeypatch) -> None:
    alone = answers(handler, collector())
    assert answers(handler, collector(), n=3) == alone * 3
    monkeypatch.setattr("handlers.decoding.engine.CHUNK", 3)
    monkeypatch.setattr("handlers.decoding.prefill.CHUNK", 3)
    assert answers(handler, collector()) == alone


def test_a_prompt_can_be_scored(handler, collector) -> None:
    request = t.TextRequest(prompts=(PROMPT,), echo=True, sampling=t.Sampling(max_tokens=0, logprobs=1))
    scored = handler.generate_text(request, collector()).choices[0].logprobs
    assert scored[0].logprob is None
    assert all(token.logprob <= 0 for token in scored[1:])
