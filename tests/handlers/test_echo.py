from __future__ import annotations

import threading
import time

import pytest
from msgspec.structs import replace

from handlers import types as t
from handlers.echo import EchoHandler
from openai_compat.errors import APIError, Cancelled, ContextLengthExceeded, InvalidRequest, ModelUnavailable

DOT = t.Picture(width=1, height=1, pixels=b"\0\0\0")
OTHER_DOT = t.Picture(width=1, height=1, pixels=b"\1\1\1")


def echo(**fields) -> EchoHandler:
    handler = EchoHandler(t.ModelSpec(id="echo", path="", kind="echo", **fields))
    handler.load_model(lambda stage, done=0, total=0: None)
    return handler


def say(text: str, **sampling) -> t.TextRequest:
    message = t.Message(role="user", parts=(t.TextPart(text=text),))
    return t.TextRequest(messages=(message,), sampling=t.Sampling(**sampling))


def test_it_repeats_the_last_user_text_word_by_word(collector) -> None:
    ctx = collector()
    result = echo().generate_text(say("one  two\nthree"), ctx)
    assert result.choices[0].text == "one  two\nthree"
    assert [d.text for d in ctx.deltas] == ["one  ", "two\n", "three"]
    assert result.usage == t.Usage(prompt_tokens=3, completion_tokens=3)
    assert result.choices[0].finish_reason == "stop"


def test_each_prompt_and_choice_has_its_own_number(collector) -> None:
    request = t.TextRequest(prompts=("a b", "c", (1, 2)), sampling=t.Sampling(n=2))
    result = echo().generate_text(request, collector())
    assert [(c.index, c.text) for c in result.choices] == [(0, "a b"), (1, "a b"), (2, "c"), (3, "c"), (4, "1 2"), (5, "1 2")]


def test_choices_are_spoken_in_turns(collector) -> None:
    ctx = collector()
    echo().generate_text(say("a b", n=2), ctx)
    assert [d.index for d in ctx.deltas] == [0, 1, 0, 1]


def test_it_honours_max_tokens_and_stops(collector) -> None:
    cut = echo().generate_text(say("a b c", max_tokens=2), collector()).choices[0]
    assert (cut.text, cut.finish_reason) == ("a b ", "length")
    ctx = collector()
    stopped = echo().generate_text(say("one two three", stop=("o th",)), ctx).choices[0]
    assert (stopped.text, stopped.finish_reason) == ("one tw", "stop")
    assert ctx.text() == "one tw"
    none = echo().generate_text(say("a", max_tokens=0), collector()).choices[0]
    assert (none.text, none.finish_reason) == ("", "length")


def test_it_gives_logprobs_and_echo(collector) -> None:
    request = t.TextRequest(prompts=("a b",), echo=True, sampling=t.Sampling(logprobs=2))
    ctx = collector()
    choice = echo().generate_text(request, ctx).choices[0]
    assert choice.text == ctx.text() == "a ba b"
    assert [(token.token, token.text_offset) for token in choice.logprobs] == [("a ", 3), ("b", 5)]
    assert [len(token.top) for token in choice.logprobs] == [2, 2]


@pytest.mark.parametrize(
    ("text", "answer", "finish"),
    [
        ("a b [[tokens=5]]", "a b a b a ", "stop"),
        ("x [[answer=Hello you]]", "Hello you", "stop"),
        ("x [[finish=length]]", "x", "length"),
        ("x [[answer=]]", "", "stop"),
        ("see [[this]]", "see [[this]]", "stop"),
    ],
)
def test_directives_in_the_text_are_followed_and_not_repeated(collector, text: str, answer: str, finish: str) -> None:
    choice = echo().generate_text(say(text), collector()).choices[0]
    assert (choice.text, choice.finish_reason) == (answer, finish)


def test_options_of_the_model_are_the_script_and_directives_win(collector) -> None:
    handler = echo(options={"answer": "fixed", "tokens": 2})
    assert handler.generate_text(say("x"), collector()).choices[0].text == "fixed fixed "
    assert handler.generate_text(say("x [[tokens=1]]"), collector()).choices[0].text == "fixed "


@pytest.mark.parametrize("directive", ["tokens=many", "speed=1", "tokens=999999999", "delay=nan", "finish=maybe"])
def test_a_wrong_directive_is_a_client_error_and_a_wrong_option_the_model_s(directive: str, collector) -> None:
    with pytest.raises(InvalidRequest):
        echo().generate_text(say(f"x [[{directive}]]"), collector())
    name, value = directive.split("=")
    with pytest.raises(ModelUnavailable):
        echo(options={name: value})


def test_it_fails_after_as_many_tokens_as_it_is_told(collector) -> None:
    ctx = collector()
    with pytest.raises(APIError) as caught:
        echo().generate_text(say("a b c d [[fail_after=2]]"), ctx)
    assert caught.value.code == "scripted_failure"
    assert ctx.text() == "a b "


def test_delays_are_kept_before_each_token(collector) -> None:
    start = time.monotonic()
    echo().generate_text(say("a b c [[delay=0.05]] [[first_delay=0.1]]"), collector())
    assert time.monotonic() - start >= 0.25


def test_a_long_delay_ends_soon_after_the_request_is_cancelled(collector) -> None:
    gone = threading.Event()
    ctx = collector()

    def check() -> None:
        if gone.is_set():
            raise Cancelled

    ctx.check = check
    threading.Timer(0.1, gone.set).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        echo().generate_text(say("a [[delay=3600]]"), ctx)
    assert time.monotonic() - start < 5


def test_an_answer_broken_off_says_what_was_spoken(collector) -> None:
    ctx = collector()
    with pytest.raises(APIError):
        echo().generate_text(say("a b c [[tokens=50]] [[fail_after=7]]"), ctx)
    assert (ctx.spent.prompt_tokens, ctx.spent.completion_tokens) == (5, 7)


def test_a_context_length_is_enforced(collector) -> None:
    handler = echo(context_length=5)
    handler.generate_text(say("a b c", max_tokens=2), collector())
    with pytest.raises(ContextLengthExceeded) as caught:
        handler.generate_text(say("a b c", max_tokens=3), collector())
    assert caught.value.param == "messages"
    with pytest.raises(ContextLengthExceeded):
        handler.generate_text(say("a b c d e"), collector())


def test_hostile_text_takes_linear_time(collector) -> None:
    for text in (" " * 2_000_000, "[[a=" * 100_000):
        start = time.monotonic()
        echo().generate_text(say(text, max_tokens=1), collector())
        assert time.monotonic() - start < 10


def test_pictures_are_real_and_named_in_a_chat(collector) -> None:
    picture = t.Message(role="user", parts=(t.TextPart(text="what is"), t.ImagePart(picture=DOT)))
    other = t.Message(role="user", parts=(t.TextPart(text="what is"), t.ImagePart(picture=OTHER_DOT)))
    answers = {echo().process_multimodal(t.TextRequest(messages=(m,)), collector()).choices[0].text for m in (picture, other)}
    assert len(answers) == 2
    assert all(answer.startswith("what is picture-") for answer in answers)


def test_a_picture_has_the_size_asked_for_and_the_prompt_s_colour(collector) -> None:
    result = echo().generate_image(t.ImageRequest(prompt="cat", width=20, height=10, n=2), collector())
    first, second = result.pictures
    assert first == second
    assert (first.width, first.height, len(first.pixels), len(set(first.pixels))) == (20, 10, 600, 3)
    other = echo().generate_image(t.ImageRequest(prompt="dog", width=20, height=10), collector())
    assert other.pictures[0] != first


def test_partial_pictures_are_shown_where_they_are_asked_for(collector) -> None:
    ctx = collector()
    echo().generate_image(t.ImageRequest(prompt="cat", partial_images=2, stream=True), ctx)
    assert [delta.partial for delta in ctx.deltas] == [0, 1]


def test_speech_is_emitted_in_pieces_that_last_as_long_as_the_result_says(collector) -> None:
    ctx = collector()
    result = echo().generate_audio(t.SpeechRequest(text="one two three " * 20), ctx)
    assert len(ctx.deltas) > 1
    assert sum(delta.sound.seconds for delta in ctx.deltas) == pytest.approx(result.seconds) == 3.0


def test_a_video_is_emitted_frame_by_frame_with_its_progress(collector) -> None:
    ctx = collector()
    result = echo().generate_video(t.VideoRequest(prompt="sea", seconds=2, width=32, height=16), ctx)
    frames = [delta.picture for delta in ctx.deltas if isinstance(delta, t.FrameDelta)]
    assert len(frames) == result.frames == 8
    assert len(set(frames)) == 8
    assert {(frame.width, frame.height) for frame in frames} == {(32, 16)}
    assert [delta.done for delta in ctx.deltas if isinstance(delta, t.ProgressDelta)] == list(range(1, 9))


def test_embeddings_are_unit_vectors_equal_for_equal_texts(collector) -> None:
    result = echo().embed_text(t.EmbedRequest(texts=("a", "b", "a"), dimensions=8), collector())
    first, second, third = result.vectors
    assert first == third != second
    assert sum(value * value for value in memoryview(first).cast("f")) == pytest.approx(1.0)
    assert result.usage.prompt_tokens == 3
    pair = echo().embed_multimodal(t.EmbedRequest(texts=("a",), images=(DOT,)), collector())
    assert len(pair.vectors) == 1
    assert pair.vectors != echo().embed_image(t.EmbedRequest(images=(DOT,)), collector()).vectors


def test_documents_rank_by_the_words_they_share_with_the_query(collector) -> None:
    ranked = echo().rank_text(t.RankRequest(query="red fox", documents=("a red fox", "a red hen", "rain")), collector())
    assert ranked.scores == (1.0, 0.5, 0.0)


def test_a_recording_is_transcribed_or_classified(collector) -> None:
    ctx = collector()
    recording = t.Sound(pcm=b"x" * 64_000, rate=16_000)
    text = echo().process_audio(t.AudioTaskRequest(audio=recording, task="transcribe", prompt="hi"), ctx)
    assert text.text.startswith("hi recording-")
    assert (text.duration, ctx.text()) == (2.0, text.text)
    labels = echo().process_audio(t.AudioTaskRequest(audio=recording, task="classify"), collector()).labels
    assert labels[0].label.startswith("recording-")


def test_a_picture_gets_the_labels_it_is_offered(collector) -> None:
    request = t.ImageTaskRequest(picture=DOT, task="classify", labels=("cat", "dog"))
    assert [label.label for label in echo().process_image(request, collector()).labels] == ["cat", "dog"]


def test_its_facts_need_no_files() -> None:
    spec = t.ModelSpec(id="echo", path="", kind="echo", context_length=7)
    analysis = EchoHandler.analyze(spec)
    assert set(analysis.capabilities) == set(t.VERBS)
    assert analysis.context_length == 7
    assert EchoHandler.validate_model_files(spec) == ()


def test_with_tools_it_reads_its_own_answer_as_a_model_of_the_dialect(collector) -> None:
    ctx = collector()
    tools = (t.Tool(name="weather"),)
    text = (
        '[[tool_parser=mistral]][[reasoning_parser=think]]<think>\nHm\n</think> Now. [TOOL_CALLS]weather[ARGS]{"city": "Paris"}'
    )
    result = echo().generate_text(replace(say(text), tools=tools), ctx)
    choice = result.choices[0]
    assert (choice.text, choice.reasoning, choice.finish_reason) == ("Now. ", "Hm", "tool_calls")
    assert [(call.name, call.arguments) for call in choice.tool_calls] == [("weather", '{"city": "Paris"}')]
    assert ctx.text() == "Now. "
    assert "".join(piece.arguments for delta in ctx.deltas for piece in delta.tool_calls) == '{"city": "Paris"}'
    assert result.usage.reasoning_tokens == 3


def test_an_unknown_parser_is_a_script_that_cannot_be_followed(collector) -> None:
    with pytest.raises(InvalidRequest):
        echo().generate_text(say("[[tool_parser=klingon]]x"), collector())


def test_it_answers_otherwise_once_a_tool_has_given_something_back(collector) -> None:
    asked = say("[[answer=call it]] [[then=it said 42]] please")
    result = t.Message(role="tool", tool_call_id="c", parts=(t.TextPart(text="42"),))
    assert echo().generate_text(asked, collector()).choices[0].text == "call it"
    again = replace(asked, messages=(*asked.messages, result))
    assert echo().generate_text(again, collector()).choices[0].text == "it said 42"
    over = replace(asked, messages=(*again.messages, t.Message(role="assistant"), *asked.messages))
    assert echo().generate_text(over, collector()).choices[0].text == "call it"
