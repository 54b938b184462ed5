"""Chats with pictures and sounds, against the library's own answers on the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from handlers import types as t
from handlers.decoding.detokenizer import detokenizer
from handlers.decoding.engine import Engine
from handlers.decoding.generate_path import GeneratePath
from handlers.decoding.vocabulary import Vocabulary
from handlers.deferred import complete
from handlers.mixing.processor import without_videos
from handlers.multimodal import MultimodalHandler
from openai_compat.errors import ContextLengthExceeded, InvalidRequest, ModelUnavailable, UnsupportedCapability

PACKED = ("llava", "llava_next", "llava_onevision", "idefics3", "internvl", "janus")
SEEING = (*PACKED, "gemma3", "qwen2_5_vl", "qwen3_vl", "mllama")
FAMILIES = (*SEEING, "qwen2_audio")
GREEDY = t.Sampling(max_tokens=10, temperature=0.0, ignore_eos=True, logprobs=0)
every_family = pytest.mark.parametrize("family", FAMILIES)


def picture(seed: int = 1, width: int = 40, height: int = 50) -> t.Picture:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return t.Picture(width=width, height=height, pixels=noise.tobytes())


def sound(seed: int = 1) -> t.Sound:
    noise = np.random.default_rng(seed).integers(-9_000, 9_000, 12_000)
    return t.Sound(pcm=np.convolve(noise, np.ones(seed) / seed, "same").astype("<i2").tobytes(), rate=16_000)


def medium(family: str, seed: int = 1) -> t.Part:
    return t.AudioPart(sound=sound(9 * seed)) if family == "qwen2_audio" else t.ImagePart(picture=picture(seed))


def said(*parts: str | t.Part, role: t.Role = "user") -> t.Message:
    return t.Message(role=role, parts=tuple(t.TextPart(text=p) if isinstance(p, str) else p for p in parts))


def chat(*messages: t.Message, **changes: Any) -> t.TextRequest:
    return t.TextRequest(messages=messages, **{"sampling": GREEDY, **changes})


@pytest.fixture(scope="module")
def loaded(tiny_mixed: Callable[..., Path]) -> Callable[..., MultimodalHandler]:
    @cache
    def make(
        family: str, context_length: int | None = None, step_tokens: int = 256, dtype: str = "float32", **changes: Any
    ) -> MultimodalHandler:
        spec = t.ModelSpec(
            id="m",
            path=str(tiny_mixed(family, **changes)),
            kind="multimodal",
            device="cpu",
            threads=1,
            context_length=context_length,
            dtype=dtype,
            options={"engine": {"step_tokens": step_tokens}},
        )
        handler = MultimodalHandler(spec)
        handler.load_model(lambda stage, done=0, total=0: None)
        return handler

    return make


@pytest.fixture(scope="module")
def library(tiny_mixed: Callable[..., Path]) -> Callable[[str], tuple[Any, Any]]:
    """The library's own processor and model."""
    import transformers

    @cache
    def load(family: str) -> tuple[Any, Any]:
        folder = tiny_mixed(family)
        config = transformers.AutoConfig.from_pretrained(folder)
        cls = transformers.models.auto.processing_auto.PROCESSOR_MAPPING[type(config)]
        model = getattr(transformers, config.architectures[0]).from_pretrained(folder).eval()
        model.generation_config.eos_token_id = None
        return without_videos(cls).from_pretrained(folder), model

    return load


def run(handler: MultimodalHandler, request: t.TextRequest, ctx: Any) -> t.TextResult:
    return complete(begin(handler, request, ctx))


def begin(handler: MultimodalHandler, request: t.TextRequest, ctx: Any) -> Any:
    request = handler.apply_mode_settings(request)
    handler.validate_inputs(request)
    return handler.process_multimodal(request, ctx)


def reference(processor: Any, model: Any, messages: tuple[t.Message, ...], tokens: int = 10) -> tuple[Any, list[int], Any]:
    """The library's prompt, its greedy answer, and the logits of each step."""
    import torch
    from transformers import GenerationConfig

    content = [{"role": message.role, "content": [_plain(part) for part in message.parts]} for message in messages]
    inputs = processor.apply_chat_template(
        content, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True
    )
    with torch.inference_mode():
        output = model.generate(**inputs, generation_config=config)
    ids = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    return inputs["input_ids"][0].tolist(), ids, torch.stack(output.logits)[:, 0]


def spelled(processor: Any, ids: list[int]) -> str:
    """As text, of which half a code point is none."""
    vocabulary = Vocabulary(processor.tokenizer)
    feed = detokenizer(vocabulary).feed
    text = "".join(feed(number) for number in ids)
    assert text
    return text


def _plain(part: t.Part) -> dict[str, Any]:
    if isinstance(part, t.TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, t.AudioPart):
        return {"type": "audio", "audio": np.frombuffer(part.sound.pcm, "<i2").astype(np.float32) / 32_768}
    from PIL import Image

    seen = part.picture
    return {"type": "image", "image": Image.frombytes("RGB", (seen.width, seen.height), seen.pixels)}


@every_family
def test_a_greedy_answer_is_the_library_s(loaded, library, collector, family: str) -> None:
    import torch

    messages = (said("What is this?", medium(family), "And why?"),)
    prompt, ids, logits = reference(*library(family), messages)
    handler = loaded(family)
    result = run(handler, chat(*messages), collector())
    answer = result.choices[0]
    assert handler.prepare_inputs(handler.apply_mode_settings(chat(*messages)))[0].ids == tuple(prompt)
    assert answer.text == spelled(library(family)[0], ids)
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (len(prompt), 10)
    likely = torch.log_softmax(logits.float(), -1).max(-1).values.tolist()
    found = [entry.logprob for entry in answer.logprobs or ()]
    assert found == pytest.approx(likely[: len(found)], abs=1e-3)
    assert len(found) > 6


@every_family
def test_what_is_seen_or_heard_decides_the_answer(loaded, collector, family: str) -> None:
    texts = {run(loaded(family), chat(said(medium(family, seed), "Well?")), collector()).choices[0].text for seed in (1, 2)}
    assert len(texts) == 2


@every_family
def test_requests_at_once_get_the_answers_they_get_alone(loaded, collector, family: str) -> None:
    handler = loaded(family)
    requests = [chat(said(medium(family, seed), "Well?")) for seed in (3, 4)]
    requests += [chat(said("No picture.")), chat(said("Both ", medium(family, 4), medium(family, 3)))]
    alone = [run(handler, request, collector()) for request in requests]
    contexts = [collector() for _ in requests]
    waiting = [begin(handler, request, ctx) for request, ctx in zip(requests, contexts, strict=True)]
    together = list(_stepped(handler, waiting))
    for one, other, ctx in zip(alone, together, contexts, strict=True):
        assert other.choices[0].text == one.choices[0].text == ctx.text()
        assert other.usage.prompt_tokens == one.usage.prompt_tokens


def _stepped(handler: MultimodalHandler, waiting: list[Any]) -> Iterator[t.TextResult]:
    while any(one.poll() is None for one in waiting):
        waiting[0].driver.step()
    yield from (one.poll() for one in waiting)


@pytest.mark.parametrize("family", SEEING)
def test_several_pictures_and_turns_are_the_library_s(loaded, library, collector, family: str) -> None:
    messages = (
        said("One ", medium(family, 1), " and two ", medium(family, 2)),
        said("A fox.", role="assistant"),
        said(medium(family, 3), "And this?"),
    )
    prompt, ids, _ = reference(*library(family), messages)
    result = run(loaded(family), chat(*messages), collector())
    assert result.usage.prompt_tokens == len(prompt)
    assert result.choices[0].text == spelled(library(family)[0], ids)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3", "mllama", "paligemma"])
def test_choices_of_a_prompt_without_pictures_are_the_answer_alone(loaded, collector, family: str) -> None:
    request = chat(said("The quick fox"))
    (alone,) = run(loaded(family), request, collector()).choices
    choices = run(loaded(family), replace(request, sampling=replace(GREEDY, n=3)), collector()).choices
    assert [choice.text for choice in choices] == [alone.text] * 3


# ---------------------------------------------------------------- packed


@pytest.mark.parametrize("family", [*FAMILIES, "paligemma"])
def test_a_model_is_packed_where_a_picture_comes_out_the_same_that_way(loaded, tiny_mixed, family: str) -> None:
    packed = family in (*PACKED, "qwen2_audio")
    assert isinstance(loaded(family)._engine, Engine if packed else GeneratePath)
    spec = t.ModelSpec(id="m", path=str(tiny_mixed(family)), kind="multimodal")
    assert MultimodalHandler.analyze(spec).path == ("engine" if packed else "generate")


@pytest.mark.parametrize(("family", "way"), [("llava", Engine), ("gemma3", GeneratePath), ("paligemma", GeneratePath)])
def test_sight_in_both_directions_is_found_out_in_half_types_too(loaded, family: str, way: type) -> None:
    assert isinstance(loaded(family, dtype="bfloat16")._engine, way)


def test_a_prompt_in_small_pieces_that_end_amid_its_picture_is_the_library_s(loaded, library, collector) -> None:
    messages = (said("One ", medium("llava", 1), " and two ", medium("llava", 2)),)
    _, ids, _ = reference(*library("llava"), messages)
    handler = loaded("llava", step_tokens=7)
    result = run(handler, chat(*messages), collector())
    assert result.choices[0].text == spelled(library("llava")[0], ids)


def test_another_picture_among_the_same_words_shares_nothing_behind_its_beginning(loaded, collector) -> None:
    handler = loaded("llava", seed=5)

    def ask(seed: int, **changes: Any) -> t.TextResult:
        return run(handler, chat(said(medium("llava", seed), "Well, what is this?"), **changes), collector())

    alone = {seed: ask(seed, cache_salt=f"alone {seed}").choices[0].text for seed in (1, 2)}
    first, other, again, apart = ask(1), ask(2), ask(1), ask(1, cache_salt="another key")
    begins = handler.prepare_inputs(handler.apply_mode_settings(chat(said(medium("llava", 1), "x"))))[0].embedded.places[0]
    assert first.usage.cached_tokens == apart.usage.cached_tokens == 0
    assert other.usage.cached_tokens <= begins
    assert again.usage.cached_tokens > begins + 16
    assert first.choices[0].text == again.choices[0].text == apart.choices[0].text == alone[1] != alone[2]
    assert other.choices[0].text == alone[2]


def test_what_gave_its_blocks_up_sees_its_picture_again(loaded, collector) -> None:
    handler = loaded("llava", step_tokens=64)
    sampling = replace(GREEDY, max_tokens=30, n=2)
    requests = [chat(said(medium("llava", seed), "Well?"), sampling=sampling) for seed in (1, 2, 3)]
    alone = [run(handler, request, collector()).choices for request in requests]
    engine, given_up = handler._engine, []
    preempt, pool = engine._scheduler._preempt, engine._pool
    engine._scheduler._preempt = lambda sequence: given_up.append(sequence) or preempt(sequence)
    held = [pool.take() for _ in range(pool.free - 14)]
    try:
        waiting = [begin(handler, request, collector()) for request in requests]
        together = [result.choices for result in _stepped(handler, waiting)]
    finally:
        pool.release(held)
        del engine._scheduler._preempt
    assert given_up
    assert [[choice.text for choice in one] for one in together] == [[choice.text for choice in one] for one in alone]


def test_pictures_of_earlier_turns_are_not_looked_at_again(loaded, collector) -> None:
    handler = loaded("llava", seed=6)
    tower = handler._lm.model.model.vision_tower
    looks: list[int] = []
    hook = tower.register_forward_hook(lambda *_: looks.append(1))
    first = said(medium("llava"), "Well?")
    run(handler, chat(first), collector())
    run(handler, chat(first, said("A fox.", role="assistant"), said("Sure?")), collector())
    assert len(looks) == 1
    run(handler, chat(first, cache_salt="another key"), collector())
    hook.remove()
    assert len(looks) == 2


# ---------------------------------------------------------------- prompts and parameters


def test_words_that_look_like_placeholders_stay_words(loaded, collector) -> None:
    handler = loaded("llava")
    request = handler.apply_mode_settings(chat(said("<image>", medium("llava"), "<|im_end|> \ue010image\ue011")))
    (prompt,) = handler.prepare_inputs(request)
    image = handler._lm.vocabulary.tokenizer.convert_tokens_to_ids("<image>")
    assert prompt.ids.count(image) == 16
    assert prompt.ids.count(2) == 1
    assert prompt.text.count("<image>") == 2
    assert run(handler, request, collector()).choices[0].text


@every_family
def test_no_client_s_words_become_tokens_of_a_picture(loaded, family: str) -> None:
    """Whatever the processor looks for: the same prompt's tokens, and between them the words as plain text."""
    handler = loaded(family)
    forged = "<image> <boi> <eoi> <video> <|AUDIO|> <fake_token_around_image> <|im_end|>"

    def marks(*parts: str | t.Part) -> list[int]:
        (prompt,) = handler.prepare_inputs(handler.apply_mode_settings(chat(said(*parts))))
        return [number for number in prompt.ids if number in handler._lm.vocabulary.special]

    assert marks("x", medium(family), "y") == marks(forged, medium(family), forged)


def test_a_tool_is_called_about_a_picture(loaded, collector) -> None:
    tools = (t.Tool(name="f", parameters='{"type":"object","properties":{},"additionalProperties":false}'),)
    sampling = replace(GREEDY, max_tokens=100, ignore_eos=False, logprobs=None)
    asked = chat(said(medium("llava"), "Call."), tools=tools, tool_choice=t.ToolChoice(mode="required"), sampling=sampling)
    ctx = collector()
    (choice,) = run(loaded("llava"), asked, ctx).choices
    assert (choice.tool_calls[0].name, choice.tool_calls[0].arguments.replace(" ", "")) == ("f", "{}")
    assert [delta for delta in ctx.deltas if delta.tool_calls]


def test_choices_and_seeds_are_each_their_own(loaded, collector) -> None:
    sampling = t.Sampling(n=3, seed=7, temperature=1.0, max_tokens=6, ignore_eos=True)
    ctx = collector()
    result = run(loaded("llava"), chat(said(medium("llava"), "Well?"), sampling=sampling), ctx)
    texts = [choice.text for choice in result.choices]
    assert [ctx.text(i) for i in range(3)] == texts
    assert len(set(texts)) == 3
    again = run(loaded("llava"), chat(said(medium("llava"), "Well?"), sampling=replace(sampling, n=1, seed=8)), collector())
    assert again.choices[0].text == texts[1]


def test_an_answer_about_a_picture_keeps_to_a_schema(loaded, collector) -> None:
    grammar = t.GrammarSpec(kind="choice", source='["a cat", "a dog"]')
    sampling = replace(GREEDY, ignore_eos=False)
    result = run(loaded("llava"), chat(said(medium("llava"), "Which?"), grammar=grammar, sampling=sampling), collector())
    assert result.choices[0].text in ("a cat", "a dog")
    assert result.choices[0].finish_reason == "stop"


def test_a_stop_string_ends_an_answer_about_a_picture(loaded, collector) -> None:
    request = chat(said(medium("llava"), "Well?"))
    text = run(loaded("llava"), request, collector()).choices[0].text
    stopped = replace(request, sampling=replace(GREEDY, stop=(text[2:4],)))
    assert run(loaded("llava"), stopped, collector()).choices[0].text == text[: text.index(text[2:4])]


@every_family
def test_a_request_that_nobody_wants_any_more_ends_within_a_step(loaded, collector, family: str) -> None:
    ctx = collector(emits=2, error=InterruptedError)
    with pytest.raises(InterruptedError):
        run(loaded(family), chat(said(medium(family), "Well?")), ctx)
    assert len(ctx.deltas) == 2


def test_a_chat_without_pictures_is_the_library_s(loaded, library, collector) -> None:
    for family in FAMILIES:
        messages = (said("The quick brown fox"),)
        prompt, ids, _ = reference(*library(family), messages)
        handler = loaded(family)
        result = complete(handler.generate_text(handler.apply_mode_settings(chat(*messages)), collector()))
        assert result.usage.prompt_tokens == len(prompt), family
        assert result.choices[0].text == spelled(library(family)[0], ids), family


def test_a_picture_s_tokens_count_against_the_context(loaded, collector) -> None:
    handler = loaded("llava", context_length=64)
    with pytest.raises(ContextLengthExceeded) as caught:
        run(handler, chat(said(medium("llava"), *["many words "] * 12)), collector())
    assert caught.value.param == "messages"
    assert run(handler, chat(said(medium("llava"), "few")), collector()).usage.prompt_tokens < 64


def test_what_a_model_cannot_take_is_refused_by_name(loaded, collector) -> None:
    for request, param in (
        (chat(said(t.AudioPart(sound=sound()))), "messages[0].content"),
        (chat(said(medium("llava"), role="system"), said("x")), "messages[0].content"),
    ):
        with pytest.raises(UnsupportedCapability) as caught:
            run(loaded("llava"), request, collector())
        assert caught.value.param == param


def test_a_picture_that_the_processor_cannot_read_is_the_client_s_mistake(loaded, collector) -> None:
    with pytest.raises(InvalidRequest):
        run(loaded("qwen2_5_vl"), chat(said(t.ImagePart(picture=picture(1, 4000, 3)))), collector())


def test_a_recording_longer_than_the_model_hears_is_refused(loaded, collector) -> None:
    with pytest.raises(InvalidRequest, match="1 seconds"):
        run(loaded("qwen2_audio"), chat(said(t.AudioPart(sound=t.Sound(pcm=bytes(40_000), rate=16_000)))), collector())


def test_a_penalty_counts_no_stand_ins_beyond_the_vocabulary(loaded, collector) -> None:
    request = chat(said(medium("llava"), "Well?"), sampling=replace(GREEDY, repetition_penalty=1.3))
    assert run(loaded("llava"), request, collector()).usage.completion_tokens == 10


def test_packed_weights_are_refused_rather_than_ignored(tiny_mixed) -> None:
    spec = t.ModelSpec(id="m", path=str(tiny_mixed("llava")), kind="multimodal", device="cpu", options={"weights": "int8"})
    with pytest.raises(ModelUnavailable, match="weights"):
        MultimodalHandler(spec).load_model(lambda stage, done=0, total=0: None)


def test_detail_low_takes_fewer_tokens_where_pictures_are_cut(loaded, collector) -> None:
    low, high, auto = (
        run(loaded("idefics3"), chat(said(t.ImagePart(picture=picture(), detail=detail))), collector()).usage.prompt_tokens
        for detail in ("low", "high", "auto")
    )
    assert low < high == auto


def test_without_a_template_a_chat_is_written_as_paragraphs(loaded, library, collector) -> None:
    handler = loaded("llava", template=False)
    (prompt,) = handler.prepare_inputs(handler.apply_mode_settings(chat(said("See ", medium("llava"), "!"))))
    assert prompt.text == "User: See <image>!\n\nAssistant:"
    assert run(handler, chat(said(medium("llava"))), collector()).choices[0].text


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in the library's processor
def test_paligemma_continues_a_picture_and_its_prompt_as_the_library_does(loaded, library, collector) -> None:
    import torch

    processor, model = library("paligemma")
    part = t.ImagePart(picture=picture())
    inputs = processor(images=[_plain(part)["image"]], text=["<image>caption en"])
    inputs = {name: torch.tensor(np.array(value)) for name, value in inputs.items() if name != "labels"}
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=10, min_new_tokens=10, do_sample=False)
    request = chat(said(part, "caption en"), mode="complete")
    result = run(loaded("paligemma"), request, collector())
    assert result.usage.prompt_tokens == inputs["input_ids"].shape[1]
    assert result.choices[0].text == spelled(processor, output[0, inputs["input_ids"].shape[1] :].tolist())


@pytest.mark.parametrize(("content", "mode"), [((), "chat"), ((t.ImagePart(picture=picture()),), "multimodal")])
def test_auto_chooses_by_what_is_in_the_messages(loaded, content: tuple[t.Part, ...], mode: str) -> None:
    assert loaded("llava").apply_mode_settings(chat(said("x", *content))).mode == mode


def test_the_mode_analyze_asks_about_the_picture_itself(loaded) -> None:
    request = loaded("llava").apply_mode_settings(chat(said(medium("llava"), "The roof."), mode="analyze"))
    assert isinstance(request.messages[0].parts[0], t.ImagePart)
    assert request.messages[0].text.endswith("The roof.")
    assert request.sampling.top_p == 0.9


def test_its_capabilities_are_read_from_the_configuration(tiny_mixed, tiny_llama) -> None:
    def verbs(folder: Path) -> frozenset[str]:
        return MultimodalHandler.get_model_capabilities(t.ModelSpec(id="m", path=str(folder), kind="multimodal"))

    able = {"generate_text", "process_multimodal", "tokenize_text"}
    assert verbs(tiny_mixed("llava")) == verbs(tiny_mixed("qwen2_audio")) == able
    assert verbs(tiny_llama) == verbs(Path("/nowhere")) == frozenset()
