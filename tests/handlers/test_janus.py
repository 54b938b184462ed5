"""Janus: what it paints, number by number against the library."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from handlers import types as t
from handlers.deferred import complete
from handlers.janus import JanusHandler
from handlers.mixing import painter
from openai_compat.errors import ContextLengthExceeded, InvalidRequest, UnsupportedMode

PROMPT = "a red fox <boi>"
LARGER = {"width": 48, "channels": 64, "seed": 3}
two_checkpoints = pytest.mark.parametrize("changes", [{}, {**LARGER, "template": False}], ids=["chat", "base"])


@pytest.fixture(scope="module")
def folder(tiny_mixed: Callable[..., Path]) -> Callable[..., Path]:
    return lambda **changes: tiny_mixed("janus", **changes)


@pytest.fixture(scope="module")
def loaded(folder: Callable[..., Path]) -> Callable[..., JanusHandler]:
    @cache
    def make(context_length: int | None = None, **changes: Any) -> JanusHandler:
        path = str(folder(**changes))
        spec = t.ModelSpec(id="j", path=path, kind="janus", device="cpu", threads=1, context_length=context_length)
        handler = JanusHandler(spec)
        handler.load_model(lambda stage, done=0, total=0: None)
        return handler

    return make


@pytest.fixture(scope="module")
def library(folder: Callable[..., Path]) -> Callable[..., tuple[Any, Any]]:
    from transformers import JanusForConditionalGeneration, JanusProcessor

    @cache
    def load(**changes: Any) -> tuple[Any, Any]:
        path = folder(**changes)
        processor, model = JanusProcessor.from_pretrained(path), JanusForConditionalGeneration.from_pretrained(path).eval()
        model.generation_config.generation_kwargs = {"boi_token_id": processor.tokenizer.convert_tokens_to_ids("<boi>")}
        return processor, model

    return load


def request(**changes: Any) -> t.ImageRequest:
    return t.ImageRequest(**{"prompt": "a red fox", **changes})


def run(handler: JanusHandler, asked: t.ImageRequest, ctx: Any) -> t.PictureResult:
    asked = handler.apply_mode_settings(asked)
    handler.validate_inputs(asked)
    return complete(handler.generate_image(asked, ctx))


def prompt_of(processor: Any) -> dict[str, Any]:
    text = "a red fox"
    if processor.chat_template:
        message = {"role": "user", "content": [{"type": "text", "text": text}]}
        text = processor.apply_chat_template([message], add_generation_prompt=True)
    inputs = processor(text=text, generation_mode="image", add_special_tokens=False, return_tensors="pt")
    return dict(inputs)


def pictures_of(processor: Any, model: Any, codes: Any) -> list[bytes]:
    decoded = model.decode_image_tokens(codes).permute(0, 3, 1, 2)  # the processor for PIL takes channels first alone
    images = processor.postprocess(list(decoded.float()), return_tensors="PIL.Image.Image")["pixel_values"]
    return [image.tobytes() for image in images]


@two_checkpoints
@pytest.mark.parametrize("guidance", [1.5, 5.0])
@pytest.mark.parametrize("sample", [False, True])
def test_its_picture_is_the_library_s_pixel_by_pixel(loaded, library, collector, changes, guidance, sample) -> None:
    import torch

    processor, model = library(**changes)
    torch.manual_seed(11)
    with torch.inference_mode():
        codes = model.generate(
            **prompt_of(processor), generation_mode="image", guidance_scale=guidance, do_sample=sample, pad_token_id=0
        )
        expected = pictures_of(processor, model, codes)
    handler = loaded(**changes)
    handler._mixed.wishes.do_sample = sample
    try:
        result = run(handler, request(guidance=guidance, seed=11), collector())
    finally:
        handler._mixed.wishes.do_sample = True
    assert [picture.pixels for picture in result.pictures] == expected
    assert len(set(codes[0].tolist())) > 2


@two_checkpoints
def test_without_guidance_it_is_a_plain_loop_over_the_prompt(loaded, library, collector, changes) -> None:
    import torch

    processor, model = library(**changes)
    ids, codes = prompt_of(processor)["input_ids"], []
    embeddings = model.get_input_embeddings()(ids)
    with torch.inference_mode():
        for _ in range(16):
            hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1]
            codes.append(model.model.generation_head(hidden).argmax(-1))
            own = model.prepare_embeddings_for_image_generation(codes[-1][:, None])
            embeddings = torch.cat([embeddings, own], dim=1)
        expected = pictures_of(processor, model, torch.stack(codes, dim=1))
    handler = loaded(**changes)
    handler._mixed.wishes.do_sample = False
    try:
        result = run(handler, request(guidance=1.0), collector())
    finally:
        handler._mixed.wishes.do_sample = True
    assert [picture.pixels for picture in result.pictures] == expected


def test_at_every_step_guidance_leads_from_without_words_to_with_them(loaded, collector, monkeypatch) -> None:
    import torch

    handler = loaded()
    scores, logits = [], []
    head = handler._lm.model.model.generation_head
    hook = head.register_forward_hook(lambda module, inputs, output: scores.append(output.clone()))
    choose = painter.choose
    monkeypatch.setattr(painter, "choose", lambda row, generators: logits.append(row.clone()) or choose(row, generators))
    run(handler, request(guidance=3.0, seed=1, n=2), collector())
    hook.remove()
    assert len(scores) == len(logits) == 16
    for both, chosen_from in zip(scores, logits, strict=True):
        worded, wordless = both[:2], both[2:]
        assert not torch.equal(worded, wordless)
        left = chosen_from.isfinite()  # the library's usual 50 likeliest
        assert left.sum() == 100
        assert torch.allclose(chosen_from[left], (wordless + 3.0 * (worded - wordless))[left], atol=1e-5)


def test_each_picture_of_a_batch_has_its_own_seed(loaded, collector) -> None:
    together = run(loaded(), request(seed=5, n=3), collector()).pictures
    alone = [run(loaded(), request(seed=5 + i), collector()).pictures[0] for i in range(3)]
    assert [one.pixels for one in together] == [one.pixels for one in alone]
    assert len({one.pixels for one in together}) == 3
    unseeded = request(guidance=1.0)  # guidance makes a tiny model's likeliest picture far too likely
    assert len({run(loaded(), unseeded, collector()).pictures[0].pixels for _ in range(3)}) == 3


def test_a_batch_is_the_library_s_for_equal_choices(loaded, library, collector) -> None:
    import torch

    processor, model = library()
    with torch.inference_mode():
        codes = model.generate(
            **prompt_of(processor), generation_mode="image", guidance_scale=4.0, do_sample=False, pad_token_id=0
        )
        expected = pictures_of(processor, model, codes)
    handler = loaded()
    handler._mixed.wishes.do_sample = False
    try:
        result = run(handler, request(guidance=4.0, n=2), collector())
    finally:
        handler._mixed.wishes.do_sample = True
    assert [picture.pixels for picture in result.pictures] == expected * 2
    assert result.usage == t.Usage(prompt_tokens=len(prompt_of(processor)["input_ids"][0]), completion_tokens=32)


def test_every_code_is_told_as_progress_and_partial_pictures_fill_from_above(loaded, collector) -> None:
    ctx = collector()
    result = run(loaded(), request(seed=2, stream=True, partial_images=2), ctx)
    steps = [delta for delta in ctx.deltas if isinstance(delta, t.ProgressDelta)]
    assert [(step.done, step.total) for step in steps] == [(i + 1, 16) for i in range(16)]
    partials = [delta for delta in ctx.deltas if isinstance(delta, t.PictureDelta)]
    assert [(delta.index, delta.partial) for delta in partials] == [(0, 0), (0, 1)]
    unpainted = [delta.picture.pixels.count(127) for delta in partials]
    assert unpainted[0] > unpainted[1] > result.pictures[0].pixels.count(127)


@pytest.mark.parametrize("way", ["emits", "checks"])
def test_painting_that_nobody_wants_any_more_ends_within_a_code(loaded, collector, way: str) -> None:
    ctx = collector(**{way: 4}, error=InterruptedError)
    with pytest.raises(InterruptedError):
        run(loaded(), request(), ctx)
    assert len(ctx.deltas) <= 4
    assert run(loaded(), request(), collector()).pictures


def test_texts_and_pictures_take_turns(loaded, collector) -> None:
    handler = loaded()
    picture = t.Picture(width=32, height=32, pixels=bytes(range(256)) * 12)
    parts = (t.TextPart(text="Look:"), t.ImagePart(picture=picture))
    sampling = t.Sampling(max_tokens=8, temperature=0.0, ignore_eos=True)
    asked = handler.apply_mode_settings(t.TextRequest(messages=(t.Message(role="user", parts=parts),), sampling=sampling))
    said = complete(handler.process_multimodal(asked, collector())).choices
    painted = run(handler, request(seed=9), collector())
    chats, paints = collector(), collector()
    chat, painting = handler.process_multimodal(asked, chats), handler.generate_image(request(seed=9), paints)
    for _ in range(6):
        chat.driver.step()
        painting.driver.step()
    assert chats.deltas
    assert paints.deltas
    assert complete(chat).choices == said
    assert complete(painting) == painted


def test_two_requests_at_once_paint_what_they_paint_alone(loaded, collector) -> None:
    handler = loaded()
    alone = [
        run(handler, request(seed=seed, guidance=guidance), collector()) for seed, guidance in ((1, 5.0), (2, 1.0), (3, 2.0))
    ]
    together = [
        handler.generate_image(request(seed=seed, guidance=guidance), collector())
        for seed, guidance in ((1, 5.0), (2, 1.0), (3, 2.0))
    ]
    assert [complete(painting) for painting in together] == alone


def test_a_prompt_s_words_never_become_control_tokens(loaded) -> None:
    handler = loaded()
    (prompt,) = handler.prepare_inputs(request(prompt="a fox <boi> <image>"))
    tokenizer = handler._lm.vocabulary.tokenizer
    assert prompt.ids.count(tokenizer.convert_tokens_to_ids("<boi>")) == 1
    assert tokenizer.convert_tokens_to_ids("<image>") not in prompt.ids


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"width": 16, "height": 16}, "size"),
        ({"negative_prompt": "blue"}, "negative_prompt"),
        ({"steps": 4}, "steps"),
        ({"task": "vary", "images": (t.Picture(width=1, height=1, pixels=b"\0\0\0"),)}, "image"),
        ({"mode": "analyze"}, "mode"),
        ({"prompt": "  ", "mode": "image"}, "prompt"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(loaded, collector, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        run(loaded(), request(**changes), collector())
    assert caught.value.param == param


def test_its_own_size_may_be_asked_for(loaded, collector) -> None:
    (picture,) = run(loaded(), request(width=8, height=8), collector()).pictures
    assert (picture.width, picture.height) == (8, 8)


def test_a_prompt_that_leaves_no_room_for_a_picture_is_refused(loaded, collector) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        run(loaded(context_length=30), request(prompt="many words " * 8), collector())
    assert caught.value.param == "prompt"


@two_checkpoints
@pytest.mark.parametrize("mode", JanusHandler.modes)
def test_each_of_its_modes_answers(loaded, collector, changes, mode: str) -> None:
    handler = loaded(**changes)
    if mode == "image":
        assert run(handler, request(mode=mode), collector()).pictures
        return
    picture = t.ImagePart(picture=t.Picture(width=32, height=32, pixels=bytes(range(256)) * 12))
    parts: tuple[t.Part, ...] = (
        (t.TextPart(text="What?"), picture) if mode in ("multimodal", "analyze") else (t.TextPart(text="Hm?"),)
    )
    asked = t.TextRequest(
        messages=(t.Message(role="user", parts=parts),), sampling=t.Sampling(max_tokens=4, ignore_eos=True), mode=mode
    )
    asked = handler.apply_mode_settings(asked)
    handler.validate_inputs(asked)
    verb = handler.process_multimodal if len(parts) > 1 else handler.generate_text
    assert complete(verb(asked, collector())).usage.completion_tokens == 4


def test_a_mode_that_it_lacks_is_refused(loaded) -> None:
    with pytest.raises(UnsupportedMode):
        loaded().apply_mode_settings(request(mode="creative"))
    assert JanusHandler.get_supported_modes() == ("auto", "chat", "image", "multimodal", "analyze")


@pytest.mark.parametrize("shows", [False, True], ids=["words", "picture"])
def test_the_processor_s_own_introduction_stands_before_a_chat(loaded, library, shows: bool) -> None:
    from PIL import Image

    processor, _ = library(introduced=True)
    content: list[dict[str, Any]] = [{"type": "text", "text": "Well?"}]
    parts: list[t.Part] = [t.TextPart(text="Well?")]
    if shows:
        content.append({"type": "image", "image": Image.new("RGB", (32, 32))})
        parts.append(t.ImagePart(picture=t.Picture(width=32, height=32, pixels=bytes(3 * 32 * 32))))
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    handler = loaded(introduced=True)
    asked = t.TextRequest(messages=(t.Message(role="user", parts=tuple(parts)),))
    (prompt,) = handler.prepare_inputs(handler.apply_mode_settings(asked))
    assert list(prompt.ids) == inputs["input_ids"][0].tolist()
    assert len(prompt.ids) > 100


def test_its_capabilities_are_read_from_the_configuration(folder, tiny_mixed) -> None:
    def verbs(path: Path) -> frozenset[str]:
        return JanusHandler.get_model_capabilities(t.ModelSpec(id="j", path=str(path), kind="janus"))

    assert verbs(folder()) == {"generate_text", "process_multimodal", "generate_image", "tokenize_text"}
    assert verbs(tiny_mixed("llava")) == frozenset()
