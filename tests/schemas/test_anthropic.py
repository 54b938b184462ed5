"""Every key, block and event of Anthropic's own SDK is known here, and on the page."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic import types as sdk
from anthropic.types import beta, message_count_tokens_params, message_create_params
from anthropic.types.beta import message_count_tokens_params as beta_count_params
from anthropic.types.beta import message_create_params as beta_create_params

from openai_compat.errors import InvalidRequest
from schemas.anthropic import CountMessageTokensRequest, CreateMessageRequest
from schemas.anthropic_answers import AnthropicMessage, MessageUsage, StreamEvent
from schemas.anthropic_blocks import Block, ResultContent
from schemas.decode import decode

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
HEADERS = {"betas", "user_profile_id", "workspace_id"}


def names_of(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def tags_of(union: Any) -> set[str]:
    """The tags of a union of Structs, or the ``type`` of each of the SDK's."""
    found: set[Any] = set()
    for part in typing.get_args(union):
        if hasattr(part, "__struct_config__"):
            found.add(part.__struct_config__.tag)
        elif hasattr(part, "model_fields"):
            found.update(typing.get_args(part.model_fields["type"].annotation))
        elif isinstance(part, type):
            found.update(typing.get_args(typing.get_type_hints(part)["type"]))
        else:
            found |= tags_of(part)
    return found


def documented() -> set[str]:
    section = re.split(r"\n## ", PAGE.split("\n## `POST /v1/messages`\n")[1])[0]
    return set(re.findall(r"^\| `([a-z_]+)` \| (?:Honoured|Partly|Refused|No effect) \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("params", "struct"),
    [
        (message_create_params.MessageCreateParamsNonStreaming, CreateMessageRequest),
        (message_create_params.MessageCreateParamsStreaming, CreateMessageRequest),
        (beta_create_params.MessageCreateParamsNonStreaming, CreateMessageRequest),
        (message_count_tokens_params.MessageCountTokensParams, CountMessageTokensRequest),
        (beta_count_params.MessageCountTokensParams, CountMessageTokensRequest),
    ],
)
def test_every_key_of_the_sdk_is_in_the_schema_and_on_the_page(params: type, struct: type[msgspec.Struct]) -> None:
    keys = set(typing.get_type_hints(params)) - HEADERS
    assert len(keys) > 5
    assert keys - names_of(struct) == set()
    assert keys - documented() == set()


def test_every_key_of_ours_is_on_the_page() -> None:
    assert names_of(CreateMessageRequest) == documented()


def test_every_block_of_the_sdk_is_known() -> None:
    assert tags_of(sdk.ContentBlockParam) - tags_of(Block) == set()
    assert tags_of(beta.BetaContentBlockParam) - tags_of(Block) == set()
    assert {"text", "image", "tool_result"} < tags_of(sdk.ContentBlockParam)
    assert tags_of(sdk.tool_result_block_param.Content) == tags_of(ResultContent)


def test_every_event_is_one_of_the_sdk_s() -> None:
    assert tags_of(StreamEvent) - {"ping"} == tags_of(sdk.RawMessageStreamEvent)


def test_an_answer_has_only_keys_that_the_sdk_reads() -> None:
    assert names_of(AnthropicMessage) <= set(sdk.Message.model_fields)
    assert names_of(MessageUsage) <= set(sdk.Usage.model_fields)


@pytest.mark.parametrize("value", [b"9" * 400, b"1e400", b"NaN", b"true", b'"1"', b"[1]", b"3.0"])
@pytest.mark.parametrize("field", ["max_tokens", "top_k", "thinking.budget_tokens"])
def test_a_number_that_is_none_is_a_refusal_naming_it(field: str, value: bytes) -> None:
    outer, _, inner = field.partition(".")
    said = b'{"type": "enabled", "%s": %s}' % (inner.encode(), value) if inner else value
    body = b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "%s": %s}' % (
        outer.encode(),
        said,
    )
    with pytest.raises(InvalidRequest) as caught:
        decode(body, CreateMessageRequest)
    assert caught.value.param == field or caught.value.code == "invalid_json"


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "Hi"}] * 8193},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 2049}]},
        {"tools": [{"name": "a", "input_schema": {}}] * 1025},
        {"system": [{"type": "text", "text": ""}] * 1025},
        {"stop_sequences": ["x" * 257]},
        {"model": "m" * 257},
    ],
)
def test_lists_and_texts_end_somewhere(fields: dict[str, Any]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], **fields}
    with pytest.raises(InvalidRequest):
        decode(json.dumps(body).encode(), CreateMessageRequest)
