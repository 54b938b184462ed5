import json

import pytest

from handlers.types import ImagePart, Message, Picture, Sound, TextPart, ToolCall
from openai_compat.errors import InvalidRequest, UnsupportedParameter
from openai_compat.translate import chat

PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def messages(chat_request):
    return lambda *wire: chat_request(messages=list(wire)).messages


def text(role: str, content: str, **fields) -> Message:
    return Message(role=role, parts=(TextPart(text=content),), **fields)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("Hi", (TextPart(text="Hi"),)),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], (TextPart(text="a"), TextPart(text="b"))),
        ([], ()),
        ("", (TextPart(text=""),)),
        (None, ()),
    ],
)
def test_content_is_a_text_or_parts_or_null(messages, content, parts):
    assert messages({"role": "user", "content": content}) == (Message(role="user", parts=parts),)


def test_content_may_be_missing(messages):
    assert messages({"role": "assistant"}) == (Message(role="assistant"),)


def test_the_content_of_a_tool_message_may_be_parts(messages):
    wire = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "4"}]}
    assert messages(wire) == (text("tool", "4", tool_call_id="call_1"),)


def test_developer_is_system(messages):
    assert messages({"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}) == (
        text("system", "Be brief."),
        text("user", "Hi"),
    )


def test_system_messages_become_one_at_the_front_in_their_order(messages):
    wire = [
        {"role": "system", "content": "One."},
        {"role": "user", "content": "Hi"},
        {"role": "developer", "content": [{"type": "text", "text": "Two."}]},
        {"role": "assistant", "content": "Hello"},
        {"role": "system", "content": ""},
        {"role": "system", "content": "Three."},
    ]
    assert messages(*wire) == (text("system", "One.\n\nTwo.\n\nThree."), text("user", "Hi"), text("assistant", "Hello"))


def test_an_empty_system_message_leaves_nothing(messages):
    assert messages({"role": "system", "content": None}, {"role": "user", "content": "Hi"}) == (text("user", "Hi"),)


@pytest.mark.parametrize("role", ["system", "developer"])
@pytest.mark.parametrize("content", ["", None, [], [{"type": "text", "text": ""}]])
def test_nothing_but_empty_system_messages_is_refused(messages, role, content):
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": role, "content": content}, {"role": "system"})
    assert caught.value.param == "messages"


def test_a_picture_in_a_system_message_is_refused(messages):
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": "system", "content": [{"type": "image_url", "image_url": PNG}]})
    assert caught.value.param == "messages[0].content[0]"


def called(arguments) -> dict:
    function = {"name": "add", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ({"a": 1}, '{"a":1}'),
        ("", "{}"),
        (None, "{}"),
        ("{broken", "{}"),
        ("[1]", "{}"),
        ("null", "{}"),
        ("[" * 100_000, "{}"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "{}"),
    ],
)
def test_the_arguments_of_a_call_are_always_the_json_of_an_object(messages, arguments, seen):
    (message,) = messages(called(arguments))
    assert message.tool_calls == (ToolCall(id="call_1", name="add", arguments=seen),)


def test_tool_calls_may_be_null(messages):
    assert messages({"role": "assistant", "content": "Hi", "tool_calls": None}) == (text("assistant", "Hi"),)


def test_a_call_without_an_id_or_a_type_gets_an_id(messages):
    (message,) = messages({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}, {"function": {"name": "g"}}]})
    assert len({call.id for call in message.tool_calls}) == 2


def test_a_custom_call_becomes_a_call_with_its_input(messages):
    wire = {"id": "c", "type": "custom", "custom": {"name": "patch", "input": 'say "hi"'}}
    (message,) = messages({"role": "assistant", "tool_calls": [wire]})
    assert json.loads(message.tool_calls[0].arguments) == {"input": 'say "hi"'}


def test_a_call_of_nothing_is_refused(messages):
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": "assistant", "tool_calls": [{"id": "c", "type": "function"}]})
    assert caught.value.param == "messages[0].tool_calls[0].function"


def test_the_deprecated_function_call_and_role_are_tools(messages):
    wire = [
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
        {"role": "function", "name": "add", "content": "4"},
    ]
    assert messages(*wire) == (
        Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="add", arguments="{}"),)),
        text("tool", "4", name="add"),
    )


def test_a_refusal_is_content_where_there_is_none(messages):
    assert messages({"role": "assistant", "refusal": "No."}) == (text("assistant", "No."),)
    assert messages({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}) == (text("assistant", "No."),)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(messages, key):
    assert messages({"role": "assistant", "content": "4", key: "2+2"}) == (text("assistant", "4", reasoning="2+2"),)


def test_names_are_kept(messages):
    assert messages({"role": "user", "name": "Ann", "content": "Hi"}) == (text("user", "Hi", name="Ann"),)


def test_an_earlier_spoken_answer_is_refused(messages):
    with pytest.raises(UnsupportedParameter) as caught:
        messages({"role": "assistant", "audio": {"id": "audio_1"}})
    assert caught.value.param == "messages[0].audio"


def test_the_order_of_parts_is_kept(messages):
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PNG}}, {"type": "text", "text": "b"}]
    (message,) = messages({"role": "user", "content": parts})
    assert [type(part) for part in message.parts] == [TextPart, ImagePart, TextPart]


def test_the_detail_is_kept(messages):
    urls = ({"url": PNG, "detail": "low"}, {"url": PNG}, PNG)
    (message,) = messages({"role": "user", "content": [{"type": "image_url", "image_url": url} for url in urls]})
    assert [part.detail for part in message.parts] == ["low", "auto", "auto"]


def test_each_part_gets_what_was_decoded_of_its_own_field(chat_body, facts):
    recording = {"type": "input_audio", "input_audio": {"data": "SUQzBAAAAAAAAA=="}}
    body = chat_body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": PNG}, recording]}] * 2)
    names = [attachment.param for attachment in chat.attachments_to_decode(body)]
    assert names == [f"messages[{i}].content[{field}" for i in (0, 1) for field in ("0].image_url", "1].input_audio")]
    made = [Picture(width=1, height=1, pixels=b"abc"), Sound(pcm=b"ab", rate=1)]
    made += [Picture(width=1, height=1, pixels=b"def"), Sound(pcm=b"cd", rate=1)]
    parts = [
        part for message in chat.to_request(body, facts, dict(zip(names, made, strict=True))).messages for part in message.parts
    ]
    assert [part.picture if isinstance(part, ImagePart) else part.sound for part in parts] == made


def test_too_many_pictures_are_refused(messages):
    picture = {"type": "image_url", "image_url": PNG}
    assert len(messages({"role": "user", "content": [picture] * 16})[0].parts) == 16
    with pytest.raises(InvalidRequest) as caught:
        messages({"role": "user", "content": [picture] * 9}, {"role": "user", "content": [picture] * 8})
    assert caught.value.param == "messages"
