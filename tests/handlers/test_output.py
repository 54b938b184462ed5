from __future__ import annotations

import json

import pytest

from handlers import types as t
from handlers.chat_template import ChatTemplate
from handlers.output import OutputFormat, OutputParser, format_of
from handlers.reasoning import STYLES, ReasoningParser
from handlers.tools.parser import ToolParser
from openai_compat.errors import ModelUnavailable

TEXT = (
    "<think>\nWhich city?\n</think>\n\nLet me see.\n"
    '<tool_call>{"name": "weather", "arguments": {"city": "Zürich"}}</tool_call>\n<tool_call>{"name": "now"}</tool_call>'
)
TOOLS = (t.Tool(name="weather"), t.Tool(name="now"))
HELLO = (t.Message(role="user", parts=(t.TextPart(text="hi"),)),)


def parser(**fields) -> OutputParser:
    return OutputParser(
        3, ReasoningParser(STYLES["think"]), ToolParser("hermes", frozenset(tool.name for tool in TOOLS)), **fields
    )


def deltas_of(reader: OutputParser, pieces: list[str]) -> list[t.TextDelta]:
    return [d for text in pieces for d in reader.feed(t.TextDelta(index=3, text=text))] + reader.finish()


def raw(reason: str = "stop", **fields) -> t.TextChoice:
    return t.TextChoice(index=3, text=TEXT, finish_reason=reason, **fields)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_deltas_add_up_to_the_choice(size: int) -> None:
    reader = parser()
    deltas = deltas_of(reader, [TEXT[i : i + size] for i in range(0, len(TEXT), size)])
    choice = reader.choice(raw())
    assert {delta.index for delta in deltas} == {3}
    assert "".join(delta.text for delta in deltas) == choice.text == "Let me see.\n"
    assert "".join(delta.reasoning for delta in deltas) == choice.reasoning == "Which city?"
    calls = [call for delta in deltas for call in delta.tool_calls]
    assert [(c.index, c.id, c.name) for c in calls if c.name] == [(i, c.id, c.name) for i, c in enumerate(choice.tool_calls)]
    joined = ["".join(c.arguments for c in calls if c.index == i) for i in (0, 1)]
    assert joined == [call.arguments for call in choice.tool_calls]
    assert [(call.name, json.loads(call.arguments)) for call in choice.tool_calls] == [
        ("weather", {"city": "Zürich"}),
        ("now", {}),
    ]
    assert choice.finish_reason == "tool_calls"


def test_the_first_piece_of_a_call_has_id_and_name_and_the_others_arguments_alone() -> None:
    calls = [call for delta in deltas_of(parser(), list(TEXT)) for call in delta.tool_calls]
    assert [call.index for call in calls] == sorted(call.index for call in calls)
    for index in (0, 1):
        first, *others = [call for call in calls if call.index == index]
        assert first.id.startswith("call_")
        assert first.arguments == ""
        assert others
        assert all(call.id is None and call.name is None and call.arguments for call in others)


def test_ids_are_unique_among_answers() -> None:
    ids = {call.id for _ in range(50) for delta in deltas_of(parser(), [TEXT]) for call in delta.tool_calls if call.id}
    assert len(ids) == 100


@pytest.mark.parametrize(
    ("reason", "seen"), [("stop", "tool_calls"), ("length", "length"), ("content_filter", "content_filter")]
)
def test_an_answer_that_was_cut_keeps_its_reason(reason: str, seen: str) -> None:
    reader = parser()
    deltas_of(reader, [TEXT])
    assert reader.choice(raw(reason)).finish_reason == seen


def test_an_answer_without_calls_stops() -> None:
    reader = parser()
    deltas_of(reader, ["Hello <tool"])
    choice = reader.choice(raw())
    assert (choice.text, choice.reasoning, choice.tool_calls, choice.finish_reason) == ("Hello <tool", None, (), "stop")


def test_without_parallel_calls_the_answer_ends_with_the_first() -> None:
    reader = parser(parallel=False)
    deltas = deltas_of(reader, list(TEXT + "more"))
    assert {call.index for delta in deltas for call in delta.tool_calls} == {0}
    assert [call.name for call in reader.choice(raw()).tool_calls] == ["weather"]
    assert reader.choice(raw()).text == "Let me see.\n"


def test_every_log_probability_goes_out_once_and_in_order() -> None:
    tokens = [t.TokenLogprob(token=c, logprob=-1.0, token_bytes=c.encode()) for c in TEXT]
    reader = parser()
    deltas = [d for one in tokens for d in reader.feed(t.TextDelta(index=3, text=one.token, logprobs=(one,)))] + reader.finish()
    assert [one for delta in deltas for one in delta.logprobs] == tokens


def test_the_answer_of_a_chat_that_can_hold_nothing_else_is_left_alone() -> None:
    plain = OutputFormat()
    assert plain.parser(0, t.TextRequest(messages=HELLO)) is None
    assert plain.parser(0, t.TextRequest(messages=HELLO, tools=TOOLS, tool_choice=t.ToolChoice(mode="none"))) is None
    assert OutputFormat(reasoning="think").parser(0, t.TextRequest(prompts=("x",))) is None
    assert OutputFormat(reasoning="think").parser(0, t.TextRequest(messages=HELLO, mode="complete")) is None
    assert plain.parser(0, t.TextRequest(messages=HELLO, tools=TOOLS)) is not None
    assert OutputFormat(reasoning="think").parser(0, t.TextRequest(messages=HELLO)) is not None


def test_a_required_call_is_bare_json_and_no_reasoning_whatever_the_model_speaks() -> None:
    request = t.TextRequest(messages=HELLO, tools=TOOLS, tool_choice=t.ToolChoice(mode="required"))
    reader = OutputFormat(dialect="mistral", reasoning="think").parser(0, request, "…<think>\n")
    deltas_of(reader, list('{"name": "now", "arguments": {}}'))
    assert [call.name for call in reader.choice(raw()).tool_calls] == ["now"]


def test_a_prompt_that_opens_the_block_makes_the_answer_begin_with_thoughts() -> None:
    request = t.TextRequest(messages=HELLO)
    for prompt, seen in (("assistant\n<think>\n", ("Hm", "Yes")), ("<think>\n</think>\n", (None, "Hm</think>Yes"))):
        reader = OutputFormat(reasoning="think").parser(0, request, prompt)
        deltas_of(reader, ["Hm</think>Yes"])
        assert (reader.choice(raw()).reasoning, reader.choice(raw()).text) == seen


def test_settings_win_over_the_template_and_must_be_known() -> None:
    template = ChatTemplate("{{ tools }} [TOOL_CALLS] </think>", {})
    assert format_of({}, template) == OutputFormat(dialect="mistral", reasoning="think")
    assert format_of({}, ChatTemplate("[TOOL_CALLS]", {})).dialect == "hermes"
    told = {"tool_parser": "pythonic", "reasoning_parser": "none"}
    assert format_of(told, template) == OutputFormat(dialect="pythonic", reasoning="none")
    assert format_of({}, None) == OutputFormat()
    for wrong in ({"tool_parser": "none"}, {"reasoning_parser": 1}):
        with pytest.raises(ModelUnavailable, match="is not one of"):
            format_of(wrong, template)


def test_the_marks_are_those_of_the_dialect_and_the_reasoning() -> None:
    assert set(OutputFormat(dialect="mistral", reasoning="mistral").marks) >= {"[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]"}
    assert OutputFormat(dialect="json").marks == ()
