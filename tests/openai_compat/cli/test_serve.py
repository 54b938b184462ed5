"""What a new user is told to try."""

import json
import shlex

import pytest

from openai_compat.cli.serve import example


@pytest.mark.parametrize(
    ("abilities", "path"),
    [
        (("generate_text",), "/chat/completions"),
        (("embed_text", "embed_image"), "/embeddings"),
        (("generate_audio",), "/audio/speech"),
        ((), "/chat/completions"),
    ],
)
def test_the_command_asks_a_model_for_what_it_can_do(abilities, path):
    words = shlex.split(example("http://h/v1", "it's", abilities, with_key=False))
    assert words[1] == "http://h/v1" + path
    assert json.loads(words[words.index("-d") + 1])["model"] == "it's"


def test_one_that_listens_gets_a_recording_and_the_key():
    words = shlex.split(example("http://h/v1", "whisper", ("process_audio",), with_key=True))
    assert words[1] == "http://h/v1/audio/transcriptions"
    assert "file=@speech.wav" in words
    assert "model=whisper" in words
    assert "authorization: Bearer $OPENAI_API_KEY" in words
