import base64
import json

import pytest

from handlers.types import SoundResult, SpeechRequest, Usage
from openai_compat.errors import InvalidRequest
from openai_compat.protocol import RelayFacts
from openai_compat.translate import speech
from schemas.decode import decode
from schemas.speech import CreateSoundRequest, CreateSpeechRequest

FACTS = RelayFacts(request_id="r", model="m", public_model="p", mode="calm")


def spoken(**body) -> SpeechRequest:
    return speech.to_speech(decode(json.dumps({"model": "m", **body}).encode(), CreateSpeechRequest), FACTS)


def made(**body) -> SpeechRequest:
    return speech.to_sound(decode(json.dumps({"model": "m", **body}).encode(), CreateSoundRequest), FACTS)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        ({"voice": "alloy"}, {"voice": "alloy"}),
        ({"voice": {"id": "voice_1"}}, {"voice": "voice_1"}),
        ({"speed": 0.25}, {"speed": 0.25}),
        ({"instructions": "softly", "language": "de", "seed": -3}, {"instructions": "softly", "language": "de", "seed": -3}),
        ({"instructions": ""}, {}),
        ({"mode": "own"}, {"mode": "own"}),
        ({"voice": None, "speed": None, "response_format": None, "stream_format": None}, {}),
    ],
)
def test_a_body_becomes_a_request(body, expected):
    assert spoken(input="Hi", **body) == SpeechRequest(**{"text": "Hi", "mode": "calm", "stream": True, **expected})


def test_a_description_becomes_a_request_for_sound():
    body = {"prompt": "rain", "seconds": 2, "negative_prompt": "", "steps": 5, "guidance": 3, "seed": 1}
    expected = SpeechRequest(text="rain", task="sound", seconds=2.0, steps=5, guidance=3.0, seed=1, mode="calm", stream=True)
    assert made(**body) == expected


def test_plan_needs_a_text_and_names_the_verb():
    body = CreateSpeechRequest(model="m", input="Hi")
    assert speech.plan_speech(body) == "generate_audio"
    assert speech.plan_sound(CreateSoundRequest(model="m", prompt="Hi")) == "generate_audio"
    with pytest.raises(InvalidRequest) as caught:
        speech.plan_speech(CreateSpeechRequest(model="m", input=" "))
    assert caught.value.param == "input"
    with pytest.raises(InvalidRequest) as caught:
        speech.plan_sound(CreateSoundRequest(model="m", prompt="\n"))
    assert caught.value.param == "prompt"


def test_every_format_has_a_media_type_and_mp3_is_the_default():
    assert speech.format_of(CreateSpeechRequest(model="m", input="x")) == "mp3"
    assert speech.format_of(CreateSoundRequest(model="m", prompt="x", response_format="wav")) == "wav"
    assert set(speech.MEDIA_TYPES) == {"mp3", "opus", "aac", "flac", "wav", "pcm"}


def test_events_hold_base64_and_the_usage():
    delta = speech.delta_event(b"\x00\xff")
    assert delta.startswith(b"data: ")
    assert delta.endswith(b"\n\n")
    assert json.loads(delta[6:]) == {"type": "speech.audio.delta", "audio": base64.b64encode(b"\x00\xff").decode()}
    done = speech.done_event(SoundResult(seconds=1.0, usage=Usage(prompt_tokens=3, completion_tokens=4)))
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    assert json.loads(done[6:]) == {"type": "speech.audio.done", "usage": usage}
