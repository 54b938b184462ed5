"""What a new user is told to try."""

import json
import shlex

import pytest

from openai_compat.cli.serve import example, warn
from openai_compat.config import Config, Model


@pytest.mark.parametrize(
    ("abilities", "path"),
    [
        (("generate_text",), "/chat/completions"),
        (("embed_text", "embed_image"), "/embeddings"),
        (("classify_text", "tokenize_text"), "/moderations"),
        (("generate_audio",), "/audio/speech"),
        (("generate_image",), "/images/generations"),
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


def test_the_log_says_of_each_model_why_it_cannot_be_served(tmp_path, caplog):
    models = {
        "echo": Model(source="", kind="echo"),
        "gone": Model(source=str(tmp_path / "nowhere")),
        "strange": Model(source="", kind="nobody"),
    }
    warn(Config(models=models))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert caplog.messages[0] == "gone: The files of the model 'gone' are not here."
    assert "strange: The model 'strange' cannot be served: There is no handler of kind 'nobody'" in caplog.messages[1]


def test_after_a_reload_only_what_is_new_is_warned_of(tmp_path, caplog):
    old = Config(models={"gone": Model(source=str(tmp_path / "nowhere"))})
    new = Config(models={**old.models, "more": Model(source=str(tmp_path / "neither"))})
    warn(new, old)
    assert caplog.messages == ["more: The files of the model 'more' are not here."]
    caplog.clear()
    warn(new, new)
    assert caplog.messages == []
