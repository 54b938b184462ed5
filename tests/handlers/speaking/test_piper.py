"""Piper voices: the real one, and hand-made ones whose sound tells what went in."""

# ruff: noqa: RUF001 -- phonemes
from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from handlers import types as t
from handlers.audio import AudioHandler
from handlers.speaking.piper import MOST_IDS
from handlers.speaking.sound import Wave, loudest, to_sound
from openai_compat.errors import InvalidRequest, ModelUnavailable
from openai_compat.media.encode import Encoder

STILL = {"noise_scale": 0.0, "noise_w": 0.0}  # then a voice says a thing always alike


@pytest.fixture(scope="module")
def joe(load, piper_joe_folder: Path) -> AudioHandler:
    return load(piper_joe_folder)


@pytest.fixture(scope="module")
def still_joe(load, piper_joe_folder: Path) -> AudioHandler:
    return load(piper_joe_folder, options=STILL)


@pytest.fixture(scope="module")
def session(piper_joe_folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    file = str(next(piper_joe_folder.glob("*.onnx")))
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def speak(handler: AudioHandler, text: str, ctx: Any, **changes: Any) -> list[t.Sound]:
    request = t.SpeechRequest(text=text, **changes)
    handler.validate_inputs(request)
    result = handler.generate_audio(request, ctx)
    sounds = [delta.sound for delta in ctx.deltas]
    assert result.seconds == pytest.approx(sum(sound.seconds for sound in sounds))
    return sounds


def direct(session: Any, ids: list[int], length: float = 1.0) -> np.ndarray:
    scales = np.array([0.0, length, 0.0], dtype=np.float32)
    inputs = {"input": np.array([ids]), "input_lengths": np.array([len(ids)]), "scales": scales}
    return session.run(None, inputs)[0].reshape(-1)


# ---------------------------------------------------------------- the real voice

HELLO = "həlˈoʊ ðˈɛɹ."


@pytest.mark.parametrize("speed", [1.0, 2.0, 0.5])
def test_joe_says_what_the_runtime_says_called_directly(still_joe, session, piper_joe_folder, collector, speed) -> None:
    table = json.loads(next(piper_joe_folder.glob("*.onnx.json")).read_text())["phoneme_id_map"]
    ids = [1, 0, *(number for symbol in HELLO for number in (*table[symbol], 0)), 2]
    (sound,) = speak(still_joe, "Hello there.", collector(), speed=speed)
    assert sound == to_sound(Wave(loudest(direct(session, ids, 1 / speed)), 22_050))


def test_speed_changes_the_time_it_takes(still_joe, collector) -> None:
    text = "The quick brown fox jumps over the lazy dog."
    usual, fast, slow = (speak(still_joe, text, collector(), speed=speed)[0].seconds for speed in (1.0, 2.0, 0.25))
    assert fast == pytest.approx(usual / 2, rel=0.3)
    assert slow == pytest.approx(usual * 4, rel=0.3)


def test_a_seed_repeats_itself_and_no_seed_does_not(joe, collector) -> None:
    first, second, other = (speak(joe, "Hello there.", collector(), seed=seed) for seed in (-5, -5, 2**63 - 1))
    free = [speak(joe, "Hello there.", collector()) for _ in range(2)]
    assert first == second
    assert len({sounds[0].pcm for sounds in (first, other, *free)}) == 4


@pytest.mark.parametrize("voice", [None, "joe", "alloy", "cedar"])
def test_one_voice_has_all_names(joe, collector, voice) -> None:
    assert speak(joe, "Hi.", collector(), voice=voice)


def test_an_unknown_voice_is_refused_with_those_that_there_are(joe) -> None:
    with pytest.raises(InvalidRequest, match="joe, alloy, ash") as caught:
        joe.validate_inputs(t.SpeechRequest(text="Hi", voice="Joe"))
    assert caught.value.param == "voice"


@pytest.mark.parametrize("language", ["en", "en-US", "EN_us"])
def test_its_language_may_be_named(joe, language) -> None:
    joe.validate_inputs(t.SpeechRequest(text="Hi", language=language))


@pytest.mark.parametrize("language", ["de", "en-GB"])
def test_another_language_is_refused(joe, language) -> None:
    with pytest.raises(InvalidRequest) as caught:
        joe.validate_inputs(t.SpeechRequest(text="Hi", language=language))
    assert caught.value.param == "language"


@pytest.mark.parametrize("text", ["😀", "... !!", "“”", "\u200b."])
def test_a_text_without_a_word_is_a_bad_request(joe, collector, text) -> None:
    with pytest.raises(InvalidRequest) as caught:
        joe.generate_audio(t.SpeechRequest(text=text), collector())
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "text", ["9" * 40, "a" * 250, "(" * 300 + "a", "\x00\x01 word", "😀 word 日本", "$1,2.3.4 €€", "a.b" * 60]
)
def test_any_text_is_spoken_or_refused(still_joe, collector, text) -> None:
    refused = ""
    try:
        assert speak(still_joe, text, collector())
    except InvalidRequest as error:
        refused = error.param or "nothing"
    assert refused in ("", "input")


def test_what_it_is_made_of_is_told_without_loading(piper_joe_folder) -> None:
    spec = t.ModelSpec(id="joe", path=str(piper_joe_folder), kind="audio")
    analysis = AudioHandler.analyze(spec)
    size = next(piper_joe_folder.glob("*.onnx")).stat().st_size
    assert analysis.capabilities == ("generate_audio",)
    assert analysis.architecture == "Piper voice"
    assert size < analysis.load_bytes < size + 2**30
    assert not any(name.startswith(("torch", "transformers")) for name in AudioHandler.get_dependencies(spec))
    assert AudioHandler.validate_model_files(spec) == ()


# ---------------------------------------------------------------- read back

SPOKEN = [
    ("The quick brown fox jumps over the lazy dog.", None),
    ("My mother is a doctor, and she works in a large hospital near the river.", None),
    ("There were 42 apples on the table.", "there were 42 apples on the table"),
    ("The meeting starts at 10:30 in room 101.", "the meeting starts at 1030 in room 101"),
    ("Dr. Smith paid $3.50 for a cup of coffee.", "dr smith paid 350 for a cup of coffee"),
]


@pytest.fixture(scope="module")
def listener(whisper_base_folder: Path) -> Any:
    from faster_whisper import WhisperModel

    return WhisperModel(str(whisper_base_folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)


def words_of(text: str) -> str:
    """Without signs, so that 10:30 and 1030, $3.50 and 350 are alike."""
    return " ".join(re.sub(r"(?<=\d)[:.,](?=\d)|[$.,:!?]", "", text.lower()).split())


@pytest.mark.slow
@pytest.mark.parametrize("format", ["mp3", "opus"])
@pytest.mark.parametrize(("text", "heard"), SPOKEN)
def test_every_word_of_a_spoken_sentence_is_heard(still_joe, listener, collector, text, heard, format) -> None:
    (sound,) = speak(still_joe, text, collector())
    encoder = Encoder(format, sound.rate)
    file = io.BytesIO(encoder.feed(sound.pcm) + encoder.finish())
    segments, _ = listener.transcribe(file, language="en")
    assert words_of("".join(segment.text for segment in segments)) == (heard or words_of(text))


# ---------------------------------------------------------------- hand-made voices


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def node(kind: str, inputs: list[str], output: str, **attributes: int) -> bytes:
    named = [field(5, field(1, name.encode()) + field(3, value) + field(20, 2)) for name, value in attributes.items()]
    return field(
        1, b"".join([*(field(1, name.encode()) for name in inputs), field(2, output.encode()), field(4, kind.encode()), *named])
    )


def value(number: int, name: str, kind: int, *dimensions: str | int) -> bytes:
    shape = b"".join(field(1, field(2, d.encode()) if isinstance(d, str) else field(1, d)) for d in dimensions)
    return field(number, field(1, name.encode()) + field(2, field(1, field(1, kind) + field(2, shape))))


def onnx_voice(speakers: int) -> bytes:
    """Its sound is its phoneme ids times the first scale, times the speaker's number."""
    floats, ints = 1, 7
    nodes = [node("Cast", ["input"], "ids", to=floats), node("ReduceMax", ["scales"], "scale", keepdims=0)]
    nodes += [node("Mul", ["ids", "scale"], "scaled" if speakers > 1 else "output")]
    inputs = [value(11, "input", ints, "batch", "n"), value(11, "input_lengths", ints, "batch"), value(11, "scales", floats, 3)]
    if speakers > 1:
        nodes += [node("Cast", ["sid"], "speaker", to=floats), node("Mul", ["scaled", "speaker"], "output")]
        inputs.append(value(11, "sid", ints, "batch"))
    graph = b"".join(nodes) + field(2, b"voice") + b"".join(inputs) + value(12, "output", floats, "batch", "n")
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))


def save_voice(folder: Path, **changes: Any) -> Path:
    symbols = ["_", "^", "$", " ", ".", "ˈ", "ː", *"abcdefghijklmnopqrstuvwxyz", *"ɐəɛɪʊʌɔɑæðθŋɹʃʒɡɾɚɜʔ"]
    config: dict[str, Any] = {
        "audio": {"sample_rate": 16_000},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.5, "length_scale": 0.002, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "phoneme_id_map": {symbol: [number] for number, symbol in enumerate(symbols)},
        "num_speakers": 3,
        "speaker_id_map": {"anna": 2, "bert": 1, "carl": 0},
        **changes,
    }
    folder.mkdir(exist_ok=True)
    (folder / "voice.onnx").write_bytes(onnx_voice(config["num_speakers"] if isinstance(config["num_speakers"], int) else 1))
    (folder / "voice.onnx.json").write_text(json.dumps(config))
    return folder


RAW = {"normalize": False, "noise_scale": 0.0, "noise_w": 0.0}


def loudness(handler: AudioHandler, ctx: Any, **changes: Any) -> float:
    (sound,) = speak(handler, "Ab", ctx, **changes)
    return float(np.frombuffer(sound.pcm, dtype="<i2").max())


def test_speakers_are_asked_for_by_name(load, tmp_path, collector) -> None:
    handler = load(save_voice(tmp_path / "v"), options=RAW)
    by_name = {
        name: loudness(handler, collector(), voice=name) for name in ("anna", "bert", "carl", "alloy", "ash", "ballad", "coral")
    }
    assert by_name["anna"] == pytest.approx(2 * by_name["bert"], abs=2)
    assert by_name["carl"] == 0
    assert [by_name[name] for name in ("alloy", "ash", "ballad", "coral")] == [
        by_name[n] for n in ("anna", "bert", "carl", "anna")
    ]


def test_names_and_the_default_are_the_operator_s_to_choose(load, tmp_path, collector) -> None:
    handler = load(save_voice(tmp_path / "v"), options={**RAW, "voices": {"alloy": "bert", "boss": "anna"}, "voice": "boss"})
    bert, anna = (loudness(handler, collector(), voice=name) for name in ("bert", "anna"))
    assert bert != anna
    assert loudness(handler, collector(), voice="alloy") == bert
    assert loudness(handler, collector()) == loudness(handler, collector(), voice="boss") == anna


def test_speakers_without_names_have_numbers(load, tmp_path, collector) -> None:
    handler = load(save_voice(tmp_path / "v", speaker_id_map={}), options=RAW)
    assert loudness(handler, collector(), voice="2") == pytest.approx(2 * loudness(handler, collector(), voice="1"), abs=2)


def test_one_speaker_has_the_name_of_the_data_or_of_the_file(load, tmp_path) -> None:
    named = load(save_voice(tmp_path / "a", num_speakers=1, speaker_id_map={}, dataset="dora"))
    plain = load(save_voice(tmp_path / "b", num_speakers=1, speaker_id_map={}))
    assert named._backend.voices[0] == "dora"
    assert plain._backend.voices[0] == "voice"


def test_the_file_s_own_length_counts_and_sentences_follow_one_another(load, tmp_path, collector) -> None:
    handler = load(save_voice(tmp_path / "v", num_speakers=1, speaker_id_map={}), options={**RAW, "pause": 0.5})
    ctx = collector()
    speak(handler, "Ab. Ab.", ctx)
    first, second = (np.frombuffer(delta.sound.pcm, dtype="<i2") for delta in ctx.deltas)
    assert not second[:8000].any()
    assert (second[8000:] == first).all()


def test_what_is_said_at_far_greater_length_than_written_goes_through_the_voice_in_parts(load, tmp_path, collector) -> None:
    handler = load(save_voice(tmp_path / "v", num_speakers=1, speaker_id_map={}), options=RAW)
    voice, text = handler._backend, "9" * 200
    whole = voice._voice.ids(text)
    parts = list(voice._voice.parts(whole))
    assert len(parts) > 1
    assert all(len(part) <= MOST_IDS + 3 and list(part[:2]) == [1, 0] and part[-1] == 2 for part in parts)
    assert all(part[2] == voice._voice._space for part in parts[1:])
    assert np.concatenate([part[2:-1] for part in parts]).tolist() == whole[2:-1].tolist()
    ctx = collector()
    (sound,) = speak(handler, text, ctx)
    assert len(sound.pcm) // 2 == sum(map(len, parts))


def test_a_text_full_of_digits_takes_no_memory_for_good(still_joe, collector) -> None:
    """A whole run kept more than a gigabyte."""
    speak(still_joe, "Hello there.", collector())
    before = psutil.Process().memory_info().rss
    speak(still_joe, "9" * 200, collector())
    assert psutil.Process().memory_info().rss - before < 300 << 20


@pytest.mark.parametrize("checks", [0, 1, 2])
def test_a_job_that_nobody_wants_any_more_ends_with_its_sentence(load, tmp_path, collector, checks) -> None:
    handler = load(save_voice(tmp_path / "v"), options=RAW)
    ctx = collector(checks=checks, error=InterruptedError)
    with pytest.raises(InterruptedError):
        speak(handler, "Ab. Ab. Ab. Ab.", ctx)
    assert checks - 1 <= len(ctx.deltas) <= checks


@pytest.mark.parametrize(
    "changes",
    [
        {"espeak": {"voice": "de"}},
        {"espeak": {}},
        {"espeak": 5},
        {"phoneme_type": "pinyin"},
        {"phoneme_id_map": {"a": [1]}},
        {"phoneme_id_map": []},
        {"phoneme_id_map": {"_": 0}},
        {"audio": {}},
        {"audio": {"sample_rate": "high"}},
        {"num_speakers": "many"},
        {"speaker_id_map": {"anna": -1}},
        {"inference": {"noise_scale": "loud"}},
    ],
)
def test_a_voice_that_cannot_be_spoken_is_refused_when_it_is_loaded(load, tmp_path, changes) -> None:
    with pytest.raises(ModelUnavailable):
        load(save_voice(tmp_path / "v", **changes))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08"])
def test_a_broken_model_file_is_refused_when_it_is_loaded(load, tmp_path, content) -> None:
    folder = save_voice(tmp_path / "v")
    (folder / "voice.onnx").write_bytes(content)
    with pytest.raises(ModelUnavailable):
        load(folder)


@pytest.mark.parametrize("options", [{"voices": {"alloy": "nobody"}}, {"noise_scale": -1}, {"color": "red"}])
def test_options_that_make_no_sense_keep_a_voice_from_loading(load, tmp_path, options) -> None:
    with pytest.raises(ModelUnavailable):
        load(save_voice(tmp_path / "v"), options=options)


def test_a_voice_runs_on_the_processor_only(load, tmp_path) -> None:
    with pytest.raises(ModelUnavailable, match="processor"):
        load(save_voice(tmp_path / "v"), device="cuda:0")


def test_two_voices_in_one_folder_are_one_too_many(load, tmp_path) -> None:
    folder = save_voice(tmp_path / "v")
    for suffix in (".onnx", ".onnx.json"):
        shutil.copy(folder / f"voice{suffix}", folder / f"other{suffix}")
    with pytest.raises(ModelUnavailable, match=re.escape("one .onnx")):
        load(folder)


@pytest.mark.parametrize(("language", "text"), [("id", "Selamat pagi, apa kabar?"), ("vi", "Xin chào, bạn khỏe không?")])
def test_indonesian_and_vietnamese_voices_are_spoken_too(load, tmp_path, collector, language: str, text: str) -> None:
    handler = load(save_voice(tmp_path / "v", espeak={"voice": language}), options=RAW)
    (sound,) = speak(handler, text, collector(), voice="anna", language=language)
    assert len(set(sound.pcm)) > 5
