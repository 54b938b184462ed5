"""What becomes of a chat's refusal."""

from __future__ import annotations

import time

import pytest

from openai_compat.errors import APIError, ContextLengthExceeded, InvalidRequest, RateLimited
from openai_compat.translate.anthropic.refusals import again, known

SEARCH = {"type": "web_search_20250305", "name": "web_search"}
LOOK = {"name": "look", "input_schema": {"type": "object"}}


def test_an_answer_gets_the_room_that_there_is_once(ask) -> None:
    turn = ask(max_tokens=32_000)
    error = ContextLengthExceeded(prompt_tokens=5000, max_tokens=32_000, context_length=8192)
    other = again(turn, error)
    assert (other.chat["max_completion_tokens"], other.is_cut) == (3192, True)
    with pytest.raises(InvalidRequest):
        again(other, error)


def test_a_prompt_that_is_too_long_is_refused_in_the_words_that_claude_code_looks_for(ask) -> None:
    error = ContextLengthExceeded(prompt_tokens=9000, max_tokens=100, context_length=8192)
    with pytest.raises(InvalidRequest) as caught:
        again(ask(), error)
    assert caught.value.message == "prompt is too long: 9000 tokens > 8192 maximum"


def test_the_words_of_openai_s_own_servers_are_known_too(ask) -> None:
    said = (
        "This model's maximum context length is 4097 tokens. However, you requested 4927 tokens (3927 in the messages, 1000 in "
        "the completion). Please reduce the length of the messages or completion."
    )
    assert again(ask(), InvalidRequest(said)).chat["max_completion_tokens"] == 170


def test_hints_that_a_server_does_not_know_are_left_out_one_by_one(ask) -> None:
    turn = ask(thinking={"type": "disabled"}, output_config={"effort": "low"})
    turn = again(turn, InvalidRequest("Unrecognized request argument supplied: chat_template_kwargs"))
    assert "chat_template_kwargs" not in turn.chat
    error = InvalidRequest("Unsupported value.", param="reasoning_effort")
    turn = again(turn, error)
    assert "reasoning_effort" not in turn.chat
    with pytest.raises(InvalidRequest):
        again(turn, error)


def test_thoughts_that_a_server_does_not_take_are_left_out_of_all_messages(ask) -> None:
    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "A"}]}
    asked = {"role": "user", "content": "Q"}
    turn = ask(messages=[asked, thought, asked])
    error = InvalidRequest("property 'reasoning_content' is unsupported")
    other = again(turn, error)
    assert other.chat["messages"][1] == {"role": "assistant", "content": "A"}
    with pytest.raises(InvalidRequest):
        again(other, error)


def test_other_refusals_stay_what_they_are(ask) -> None:
    error = RateLimited("reasoning_effort", retry_after=3)
    with pytest.raises(RateLimited) as caught:
        again(ask(output_config={"effort": "low"}), error)
    assert caught.value is error


@pytest.mark.parametrize(
    ("param", "name"),
    [
        ("max_completion_tokens", "max_tokens"),
        ("stop", "stop_sequences"),
        ("response_format.json_schema.schema", "output_config.format"),
        ("tools[0].function.parameters", "tools[1].input_schema"),
        ("tools[0].function.name", "tools[1].name"),
        ("tools[0].function", "tools[1]"),
        ("messages[0]", "system"),
        ("messages[1].content[1].image_url", "messages[0].content[1].source"),
        ("messages[2].tool_calls[0].id", "messages[1]"),
        ("messages[3].content", "messages[2].content[0]"),
        ("temperature", "temperature"),
        ("messages", "messages"),
    ],
)
def test_fields_have_the_client_s_names(ask, param: str, name: str) -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "See"}, picture]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "look", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
    ]
    turn = ask(messages=messages, system="S", tools=[SEARCH, LOOK])
    error = known(turn, InvalidRequest(f"Invalid value for '{param}': no.", param=param))
    assert (error.param, error.message) == (name, f"Invalid value for '{name}': no.")


def test_no_message_of_a_stranger_s_takes_long_to_read(ask) -> None:
    began = time.process_time()
    known(ask(), APIError("maximum context length is 1 tokens(" * 300_000))
    assert time.process_time() - began < 2
