"""Each family against the library's own pipeline: the same weights, the same seed, the same numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handlers import types as t
from handlers.audio import AudioHandler
from handlers.speaking.sound import Wave, to_sound
from openai_compat.errors import InvalidRequest, ModelUnavailable

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning"),
]
TEXT = "Hello there, how are you today"
SEED = 11
SPEAKERS = ("vits", "vits_many", "speecht5", "bark")
DIFFUSION = {"stable_audio": ("audio_end_in_s", 2), "audioldm2": ("audio_length_in_s", 1)}  # argument for the length, channels
MAKERS = ("musicgen", *DIFFUSION)
ALL = (*SPEAKERS, *MAKERS)


@pytest.fixture(scope="module")
def handlers(request: pytest.FixtureRequest, load) -> Callable[[str], AudioHandler]:
    loaded: dict[str, AudioHandler] = {}

    def handler_of(name: str) -> AudioHandler:
        if name not in loaded:
            loaded[name] = load(request.getfixturevalue(f"{name}_folder"))
        return loaded[name]

    return handler_of


def request_for(name: str, text: str = TEXT, **changes: Any) -> t.SpeechRequest:
    task = "sound" if name in MAKERS else "speak"
    seconds = 0.5 if name in MAKERS else None
    steps = 3 if name in DIFFUSION else None
    return t.SpeechRequest(**{"text": text, "task": task, "seed": SEED, "seconds": seconds, "steps": steps, **changes})


def sound_of(handler: AudioHandler, request: t.SpeechRequest, ctx: Any) -> bytes:
    handler.validate_inputs(request)
    result = handler.generate_audio(request, ctx)
    sounds = [delta.sound for delta in ctx.deltas]
    assert result.seconds == pytest.approx(sum(sound.seconds for sound in sounds))
    return b"".join(sound.pcm for sound in sounds)


def pipeline_sound(name: str, folder: Path, **forward: Any) -> Wave:
    """What the library's own pipeline makes of the same."""
    from transformers import (
        AutoTokenizer,
        BarkModel,
        BarkProcessor,
        MusicgenForConditionalGeneration,
        SpeechT5ForTextToSpeech,
        SpeechT5HifiGan,
        VitsModel,
        pipeline,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder) if name != "stable_audio" else None
    told: dict[str, Any] = {"tokenizer": tokenizer}
    if name in ("vits", "vits_many"):
        model = VitsModel.from_pretrained(folder)
        forward |= {"speaker_id": 2} if name == "vits_many" else {}
    elif name == "speecht5":
        from safetensors.torch import load_file

        model = SpeechT5ForTextToSpeech.from_pretrained(folder)
        told["vocoder"] = SpeechT5HifiGan.from_pretrained(folder / "vocoder")
        forward = {"speaker_embeddings": load_file(folder / "speaker_embeddings.safetensors")["bert"][None]}
    elif name == "bark":
        return bark_sound(folder, BarkModel.from_pretrained(folder), BarkProcessor(tokenizer))
    else:
        model = MusicgenForConditionalGeneration.from_pretrained(folder)
        forward = {"max_new_tokens": 53}  # half a second, and three for the delay of the codebooks
    pipe = pipeline("text-to-audio", model=model, device="cpu", **told)
    torch.manual_seed(SEED)
    made = pipe(TEXT, forward_params=forward)
    return Wave(np.squeeze(np.asarray(made["audio"], dtype=np.float32)), made["sampling_rate"])


def bark_sound(folder: Path, model: Any, processor: Any) -> Wave:
    from safetensors.numpy import load_file

    arrays = load_file(folder / "speaker_embeddings.safetensors")
    preset = {part: arrays[f"en_1/{part}"] for part in ("semantic_prompt", "coarse_prompt", "fine_prompt")}
    inputs = processor(TEXT, voice_preset=preset, max_length=32)
    torch.manual_seed(SEED)
    return Wave(model.generate(**inputs).numpy().squeeze(), 24_000)


def diffusers_sound(name: str, folder: Path) -> Wave:
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder)
    torch.manual_seed(SEED)
    made = pipe(
        TEXT,
        negative_prompt="noise",
        num_inference_steps=5,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(SEED),
        output_type="np",
        **{DIFFUSION[name][0]: 0.5},
    )
    return Wave(made.audios[0], 400)


VOICES = {"vits_many": "2", "speecht5": "bert", "bark": "en_1"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in DIFFUSION])
def test_it_sounds_as_the_library_s_own_pipeline(handlers, collector, request, name: str) -> None:
    expected = to_sound(pipeline_sound(name, request.getfixturevalue(f"{name}_folder")))
    heard = sound_of(handlers(name), request_for(name, voice=VOICES.get(name)), ctx := collector())
    assert heard == expected.pcm
    assert len(set(heard)) > 10
    assert (ctx.deltas[0].sound.rate, ctx.deltas[0].sound.channels) == (expected.rate, expected.channels)


@pytest.mark.parametrize("name", DIFFUSION)
def test_a_diffusion_sounds_as_the_library_s_own_pipeline(handlers, collector, request, name: str) -> None:
    expected = to_sound(diffusers_sound(name, request.getfixturevalue(f"{name}_folder")))
    asked = request_for(name, negative_prompt="noise", steps=5, guidance=4.0)
    heard = sound_of(handlers(name), asked, ctx := collector())
    assert heard == expected.pcm
    assert len(set(heard)) > 10
    assert (ctx.deltas[0].sound.rate, ctx.deltas[0].sound.channels) == (400, DIFFUSION[name][1])


@pytest.mark.parametrize("name", ALL)
def test_a_seed_repeats_itself_and_no_seed_does_not(handlers, collector, name: str) -> None:
    handler = handlers(name)
    first, second, other = (sound_of(handler, request_for(name, seed=seed), collector()) for seed in (1, 1, 2))
    free = [sound_of(handler, request_for(name, seed=None), collector()) for _ in range(2)]
    assert first == second
    assert len({first, other, *free}) == 4


@pytest.mark.parametrize("name", ALL)
def test_the_global_generator_is_left_alone(handlers, collector, name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    sound_of(handlers(name), request_for(name, seed=1), collector())
    sound_of(handlers(name), request_for(name, seed=None), collector())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SPEAKERS)
def test_each_sentence_is_a_piece_and_all_but_the_first_begin_with_a_pause(handlers, collector, name: str) -> None:
    handler, ctx = handlers(name), collector()
    sound_of(handler, request_for(name, "Hello there. How are you? Well."), ctx)
    first, *others = [delta.sound for delta in ctx.deltas]
    assert len(others) == 2
    for sound in others:
        pause = 2 * round(0.2 * sound.rate)
        assert sound.pcm[:pause] == bytes(pause)
        assert any(sound.pcm[pause:])
    assert any(first.pcm[: 2 * round(0.2 * first.rate)])


def test_twice_the_speed_takes_half_the_time_where_the_sound_is_stretched(handlers, collector) -> None:
    handler = handlers("speecht5")
    usual, fast, slow = (
        len(sound_of(handler, request_for("speecht5", speed=speed), collector())) for speed in (1.0, 2.0, 0.25)
    )
    assert fast == pytest.approx(usual / 2, rel=0.05)
    assert slow == pytest.approx(usual * 4, rel=0.05)


@pytest.mark.parametrize("speed", [0.25, 2.0])
def test_vits_itself_speaks_slower_or_faster(handlers, collector, vits_folder, speed: float) -> None:
    expected = to_sound(pipeline_sound("vits", vits_folder, speaking_rate=speed))
    assert sound_of(handlers("vits"), request_for("vits", speed=speed), collector()) == expected.pcm


@pytest.mark.parametrize("name", ALL)
def test_a_job_that_nobody_wants_any_more_ends_within_its_sentence(handlers, collector, name: str) -> None:
    """Of the step-by-step families a step, of the others a sentence."""
    ctx = collector(checks=2, error=InterruptedError)
    text = TEXT if name in ("bark", "speecht5", *MAKERS) else "One. Two. Three. Four."
    with pytest.raises(InterruptedError):
        sound_of(handlers(name), request_for(name, text), ctx)
    assert len(ctx.deltas) <= 2


@pytest.mark.parametrize("name", ALL)
def test_after_a_job_was_stopped_the_next_one_is_whole(handlers, collector, name: str) -> None:
    handler = handlers(name)
    whole = sound_of(handler, request_for(name), collector())
    with pytest.raises(InterruptedError):
        sound_of(handler, request_for(name), collector(checks=0, error=InterruptedError))
    assert sound_of(handler, request_for(name), collector()) == whole


@pytest.mark.parametrize("name", ALL)
def test_capabilities_and_facts_are_those_of_a_model_that_makes_sound(request, name: str) -> None:
    spec = t.ModelSpec(id="x", path=str(request.getfixturevalue(f"{name}_folder")), kind="audio")
    analysis = AudioHandler.analyze(spec)
    assert analysis.capabilities == ("generate_audio",)
    assert analysis.load_bytes > 2**20
    assert analysis.parameters > 100
    assert AudioHandler.validate_model_files(spec) == ()
    assert any(name.startswith("torch") for name in AudioHandler.get_dependencies(spec))


@pytest.mark.parametrize("name", [name for name in ALL if name not in DIFFUSION])
def test_the_tokens_of_the_text_are_counted(handlers, collector, name: str) -> None:
    short, long = (handlers(name).generate_audio(request_for(name, text), collector()) for text in ("Hello", TEXT))
    assert 0 < short.usage.prompt_tokens < long.usage.prompt_tokens


def test_music_counts_the_steps_that_made_it(handlers, collector) -> None:
    assert handlers("musicgen").generate_audio(request_for("musicgen"), collector()).usage.completion_tokens == 50


REFUSED = [
    ("vits", {"task": "sound"}, "model"),
    ("bark", {"task": "sound"}, "model"),
    ("musicgen", {"task": "speak"}, "model"),
    ("stable_audio", {"task": "speak"}, "model"),
    ("vits", {"voice": "nobody"}, "voice"),
    ("vits_many", {"voice": "3"}, "voice"),
    ("speecht5", {"voice": "carl"}, "voice"),
    ("bark", {"voice": "en_2"}, "voice"),
    ("musicgen", {"seconds": 31.0}, "seconds"),
    ("stable_audio", {"seconds": 2.0}, "seconds"),
    ("musicgen", {"negative_prompt": "x"}, "negative_prompt"),
    ("musicgen", {"steps": 5}, "steps"),
]


@pytest.mark.parametrize(("name", "changes", "param"), REFUSED)
def test_what_a_model_cannot_do_is_refused_by_name(handlers, name: str, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        handlers(name).validate_inputs(request_for(name, **changes))
    assert caught.value.param == param


def test_an_unknown_voice_is_told_of_those_that_there_are(handlers) -> None:
    with pytest.raises(InvalidRequest, match="anna, bert, alloy"):
        handlers("speecht5").validate_inputs(request_for("speecht5", voice="carl"))


@pytest.mark.parametrize("name", ["vits", "vits_many"])  # the others have a token for everything
def test_a_text_with_nothing_to_speak_in_it_is_a_bad_request(handlers, collector, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        handlers(name).generate_audio(request_for(name, "1234 ?!"), collector())
    assert caught.value.param == "input"


def test_an_answer_has_a_longest_length(load, vits_folder, collector) -> None:
    handler = load(vits_folder, options={"max_seconds": 0.5})
    ctx = collector()
    with pytest.raises(InvalidRequest) as caught:
        handler.generate_audio(request_for("vits", "Hello there my friend. " * 100), ctx)
    assert caught.value.param == "input"
    assert sum(delta.sound.seconds for delta in ctx.deltas) <= 0.5


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vits", {"voices": {"x": "nobody"}}),
        ("vits", {"voice": "nobody"}),
        ("vits", {"noise": 1}),
        ("vits", {"pause": -1}),
        ("musicgen", {"steps": 3}),
        ("stable_audio", {"steps": 0}),
    ],
)
def test_options_that_make_no_sense_keep_a_model_from_loading(request, load, name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailable):
        load(request.getfixturevalue(f"{name}_folder"), options=options)


@pytest.mark.parametrize(
    ("name", "missing"),
    [("speecht5", "speaker_embeddings.safetensors"), ("speecht5", "vocoder"), ("bark", "model.safetensors")],
)
def test_a_folder_that_is_not_whole_is_no_model(request, load, tmp_path, name: str, missing: str) -> None:
    folder = shutil.copytree(request.getfixturevalue(f"{name}_folder"), tmp_path / "model")
    if (folder / missing).is_dir():
        shutil.rmtree(folder / missing)
    else:
        (folder / missing).unlink()
    with pytest.raises(ModelUnavailable):
        load(folder)


def test_a_bark_without_presets_has_one_voice(request, load, tmp_path, collector) -> None:
    folder = shutil.copytree(request.getfixturevalue("bark_folder"), tmp_path / "model")
    (folder / "speaker_embeddings.safetensors").unlink()
    assert sound_of(load(folder), request_for("bark", voice="default"), collector())


@pytest.mark.parametrize(("setting", "reason"), [("phonemize", "espeak"), ("is_uroman", "uroman")])
def test_a_voice_that_needs_other_programs_for_its_letters_is_refused(
    load, vits_folder, tmp_path, monkeypatch, setting: str, reason: str
) -> None:
    monkeypatch.setattr("transformers.utils.is_uroman_available", lambda: False)
    folder = shutil.copytree(vits_folder, tmp_path / "model")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), setting: True}))
    with pytest.raises(ModelUnavailable, match=reason):
        load(folder)
