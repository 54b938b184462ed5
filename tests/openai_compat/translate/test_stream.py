import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion as SDKCompletion
from openai.types.chat import ChatCompletionChunk as SDKChunk

from handlers.types import ProgressDelta, TextChoice, TextDelta, TextResult, TokenLogprob, ToolCall, ToolCallDelta, Usage
from openai_compat.translate.chat import ChatStream
from openai_compat.translate.common import Meta
from openai_compat.translate.completions import CompletionStream
from schemas.chat import ChatCompletionChunk
from schemas.completions import Completion

LOGPROBS = (TokenLogprob(token="a", logprob=-1.0, token_bytes=b"a"),)
META = Meta(id="x-1", created=1_790_000_000, model="m")


def result(*choices: TextChoice) -> TextResult:
    return TextResult(choices=choices, usage=Usage(prompt_tokens=2, completion_tokens=3))


def done(index: int = 0, text: str = "", reason: str = "stop", **fields) -> TextChoice:
    return TextChoice(index=index, text=text, finish_reason=reason, **fields)


def events(data: bytes) -> list[dict]:
    """The JSON of each event; checks the framing and the end."""
    frames = data.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames[:-1])
    return [json.loads(frame[len("data: ") :]) for frame in frames[:-2]]


def play(stream, batches, outcome) -> list[dict]:
    return events(b"".join([*map(stream.deltas, batches), stream.finish(outcome)]))


def script(*, logprobs=()):
    """Two choices, interleaved."""
    batches = [
        [TextDelta(index=0, text='He"', logprobs=logprobs)],
        [TextDelta(index=1, text="Y"), TextDelta(index=0, text="llo\n")],
        [],
        [TextDelta(index=1, text="o é🎈")],
    ]
    return batches, result(done(0, 'He"llo\n'), done(1, "Yo é🎈", "length"))


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("logprobs", [(), LOGPROBS])
def test_every_chat_chunk_is_what_strict_clients_want(include_usage, logprobs, problems):
    chunks = play(ChatStream(META, include_usage=include_usage), *script(logprobs=logprobs))
    for chunk in chunks:
        SDKChunk.model_validate(chunk, strict=True)
        msgspec.convert(chunk, ChatCompletionChunk)
        assert problems(chunk, "CreateChatCompletionStreamResponse") == []
        assert (chunk["id"], chunk["created"], chunk["model"]) == ("x-1", 1_790_000_000, "m")
        for choice in chunk["choices"]:
            assert set(choice) == {"index", "delta", "logprobs", "finish_reason"}


def test_every_completion_chunk_is_what_strict_clients_want():
    chunks = play(CompletionStream(META, include_usage=False), *script(logprobs=LOGPROBS))
    for chunk in chunks:
        msgspec.convert(chunk, Completion)
        finished = {**chunk, "choices": [{**c, "finish_reason": c["finish_reason"] or "stop"} for c in chunk["choices"]]}
        SDKCompletion.model_validate(finished, strict=True)
        assert set(chunk["choices"][0]) == {"index", "text", "logprobs", "finish_reason"}


def test_a_chat_stream_is_role_text_and_one_finish_for_each_choice():
    chunks = play(ChatStream(META, include_usage=False), *script())
    for index, text, reason in ((0, 'He"llo\n', "stop"), (1, "Yo é🎈", "length")):
        mine = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert [choice["delta"].get("role") for choice in mine[1:]] == [None] * (len(mine) - 1)
        assert "".join(choice["delta"].get("content", "") for choice in mine) == text
        assert [choice["finish_reason"] for choice in mine] == [None] * (len(mine) - 1) + [reason]
        assert mine[-1]["delta"] == {}


def test_the_choices_of_a_stream_are_interleaved():
    chunks = play(ChatStream(META, include_usage=False), *script())
    texts = [(c["index"], c["delta"]["content"]) for chunk in chunks for c in chunk["choices"] if c["delta"].get("content")]
    assert texts == [(0, 'He"'), (1, "Y"), (0, "llo\n"), (1, "o é🎈")]


@pytest.mark.parametrize("make", [ChatStream, CompletionStream])
def test_usage_comes_once_without_choices_and_is_null_before(make):
    chunks = play(make(META, include_usage=True), *script())
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 5
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks[:-1])


@pytest.mark.parametrize("make", [ChatStream, CompletionStream])
def test_nobody_hears_of_usage_who_did_not_ask(make):
    chunks = play(make(META, include_usage=False), *script())
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_usage_is_asked_for_by_stream_options_only(options, chat_body, completion_body):
    for stream, make in ((ChatStream, chat_body), (CompletionStream, completion_body)):
        asked = stream.of(make(stream_options={"include_usage": True}), META)
        assert b'"usage":' in asked.finish(result(done()))
        assert b'"usage":' not in stream.of(make(stream_options=options), META).finish(result(done()))


def test_probabilities_come_with_their_text():
    chat = play(ChatStream(META, include_usage=False), [[TextDelta(index=0, text="a", logprobs=LOGPROBS)]], result(done()))
    assert chat[1]["choices"][0]["logprobs"]["content"][0]["token"] == "a"
    legacy = play(
        CompletionStream(META, include_usage=False), [[TextDelta(index=0, text="a", logprobs=LOGPROBS)]], result(done())
    )
    assert legacy[0]["choices"][0]["logprobs"]["tokens"] == ["a"]


def test_a_choice_of_which_nothing_was_emitted_is_sent_whole():
    chunks = play(ChatStream(META, include_usage=False), [], result(done(0, "All", logprobs=LOGPROBS)))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "All", None]
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["token"] == "a"
    assert play(CompletionStream(META, include_usage=False), [], result(done(0, "All")))[0]["choices"][0]["text"] == "All"


def test_an_empty_answer_is_a_role_and_a_finish():
    chunks = play(ChatStream(META, include_usage=False), [], result(done()))
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [{"role": "assistant", "content": ""}, {}]


def test_a_batch_is_one_write_with_one_event_a_delta():
    stream = CompletionStream(META, include_usage=False)
    data = stream.deltas([TextDelta(index=0, text="a"), TextDelta(index=0, text="b"), TextDelta(index=0, text="")])
    assert data.count(b"data: ") == 2
    assert stream.deltas([]) == b""
    assert stream.deltas([ProgressDelta(done=1, total=2)]) == b""


@given(model=st.text(max_size=30), texts=st.lists(st.text(min_size=1, max_size=20), max_size=5))
def test_any_text_arrives_as_it_was(model, texts):
    meta = Meta(id="x", created=1, model=model)
    batches = [[TextDelta(index=0, text=text)] for text in texts]
    for make, piece in ((ChatStream, lambda c: c["delta"].get("content", "")), (CompletionStream, lambda c: c["text"])):
        chunks = play(make(meta, include_usage=False), batches, result(done(0, "".join(texts))))
        assert "".join(piece(chunk["choices"][0]) for chunk in chunks) == "".join(texts)
        assert {chunk["model"] for chunk in chunks} == {model}


def calling() -> list[TextDelta]:
    """Reasoning, words, and two calls."""
    pieces = [
        ToolCallDelta(index=0, id="call_1", name="weather"),
        ToolCallDelta(index=0, arguments='{"city": "Z'),
        ToolCallDelta(index=0, arguments='ürich"}'),
        ToolCallDelta(index=1, id="call_2", name="now"),
        ToolCallDelta(index=1, arguments="{}"),
    ]
    thoughts = [TextDelta(index=0, text="", reasoning="Hm"), TextDelta(index=0, text="", reasoning=".")]
    calls = [TextDelta(index=0, text="", tool_calls=(piece,)) for piece in pieces]
    return [*thoughts, TextDelta(index=0, text="Let me see."), *calls]


CALLED = TextChoice(
    index=0,
    text="Let me see.",
    reasoning="Hm.",
    finish_reason="tool_calls",
    tool_calls=(
        ToolCall(id="call_1", name="weather", arguments='{"city": "Zürich"}'),
        ToolCall(id="call_2", name="now", arguments="{}"),
    ),
)


@pytest.mark.parametrize("emitted", [calling(), []])
def test_calls_and_reasoning_are_what_strict_clients_want(emitted, problems):
    chunks = play(ChatStream(META, include_usage=True), [[delta] for delta in emitted], result(CALLED))
    for chunk in chunks:
        SDKChunk.model_validate(chunk, strict=True)
        msgspec.convert(chunk, ChatCompletionChunk)
        assert problems(chunk, "CreateChatCompletionStreamResponse") == []
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert [d.get("reasoning") for d in deltas] == [d.get("reasoning_content") for d in deltas]
    assert "".join(delta.get("content") or "" for delta in deltas) == "Let me see."
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    assert calls[0] == first
    assert [call["index"] for call in calls] == sorted(call["index"] for call in calls)
    assert all(set(call) == {"index", "function"} for call in calls if "id" not in call)
    joined = ["".join(c["function"]["arguments"] for c in calls if c["index"] == i) for i in (0, 1)]
    assert joined == ['{"city": "Zürich"}', "{}"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_choice_that_begins_with_a_call_has_no_content():
    first = ToolCallDelta(index=0, id="call_1", name="now")
    chunks = play(ChatStream(META, include_usage=False), [[TextDelta(index=0, text="", tool_calls=(first,))]], result(CALLED))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}


def test_a_legacy_completion_has_no_place_for_calls():
    stream = CompletionStream(META, include_usage=False)
    chunks = play(stream, [calling()], result(CALLED))
    assert "".join(choice["text"] for chunk in chunks for choice in chunk["choices"]) == "Let me see."
