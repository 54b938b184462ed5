"""No number, text, list or map that a client may send is without bounds, or there is a reason that is written here."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

import schemas
from openai_compat.app import GATEWAY_ROUTES, MODEL_ROUTES
from openai_compat.errors import InvalidRequest
from openai_compat.translate import chat, completions, embeddings
from schemas.chat import ChatCompletionRequest
from schemas.completions import CompletionRequest
from schemas.decode import decode
from schemas.embeddings import EmbeddingRequest

for found in pkgutil.iter_modules(schemas.__path__):
    importlib.import_module(f"schemas.{found.name}")


def descendants(struct: type) -> Iterator[type]:
    for child in struct.__subclasses__():
        yield child
        yield from descendants(child)


OURS = {struct for struct in descendants(msgspec.Struct) if struct.__module__.startswith("schemas.")}
REQUESTS = sorted((struct for struct in OURS if struct.__name__.endswith("Request")), key=lambda struct: struct.__name__)

CONTEXT = "words for the model: the body's limit bounds it, and the context's length"
PICTURE = "a picture as a data URL: the body's limit bounds it, and what is decoded has limits of its own"
REFUSED = "whatever stands there is refused by name"
IGNORED = "never looked into; the body's limit bounds it"
SCHEMA = "translate.schema_bounds bounds its bytes, depth and nodes"
ITEMS = "translate.responses bounds ids, names, depth and how much there is; the body's limit bounds words and pictures"
REASONS = {
    "ChatMessage.content": CONTEXT,
    "ChatMessage.reasoning": CONTEXT,
    "ChatMessage.reasoning_content": CONTEXT,
    "ChatMessage.refusal": CONTEXT,
    "TextContent.text": CONTEXT,
    "RefusalContent.refusal": CONTEXT,
    "CalledFunction.arguments": CONTEXT,
    "CalledFunction.arguments{}": CONTEXT,
    "CalledCustom.input": CONTEXT,
    "CompletionRequest.prompt": CONTEXT,
    "CompletionRequest.prompt[]": CONTEXT,
    "InputPart.image_url": PICTURE,
    "JsonSchemaFormat.schema{}": SCHEMA,
    "SamplingFields.guided_json{}": SCHEMA,
    "StructuredOutputs.json{}": SCHEMA,
    "FunctionDefinition.parameters{}": SCHEMA,
    "AllowedTools.tools[]{}": "only the names in it are looked for",
    "StructuredOutputs.structural_tag": REFUSED,
    "StructuredOutputs.whitespace_pattern": REFUSED,
    "StructuredOutputs.disable_any_whitespace": REFUSED,
    "StructuredOutputs.disable_additional_properties": REFUSED,
    "ChatCompletionRequest.chat_template": REFUSED,
    "ChatCompletionRequest.audio{}": REFUSED,
    "ChatCompletionRequest.prediction{}": IGNORED,
    "ChatCompletionRequest.web_search_options{}": REFUSED,
    "ChatCompletionRequest.moderation{}": IGNORED,
    "ChatCompletionRequest.metadata{}": IGNORED,
    "ChatCompletionRequest.prompt_cache_options{}": IGNORED,
    "CustomDefinition.format{}": REFUSED,
    "CreateDecisionRequest.input": CONTEXT,
    "CreateDecisionRequest.input[]": ITEMS,
    "CreateDecisionRequest.prompt_cache_options{}": IGNORED,
    "JsonPart.data{}": "translate.decisions bounds its bytes, depth and values",
    "JsonPart.data[]{}": "translate.decisions bounds its bytes, depth and values",
    "CreateConversationRequest.items[]": "translate.responses.items bounds what is read of them; the body's limit the rest",
    "CreateItemsRequest.items[]": "translate.responses.items bounds what is read of them; the body's limit the rest",
    "TurnFields.input": CONTEXT,
    "TurnFields.input[]": ITEMS,
    "TurnFields.instructions": CONTEXT,
    "TurnFields.tools[]{}": ITEMS,
    "TurnFields.tool_choice{}": ITEMS,
    "TextOptions.format{}": ITEMS,
    "ResponsePrompt.id": REFUSED,
    "CreateResponseRequest.access_programs{}": IGNORED,
    "CreateResponseRequest.background_options{}": IGNORED,
    "CreateResponseRequest.context_management[]{}": IGNORED,
    "CreateResponseRequest.image{}": IGNORED,
    "CreateResponseRequest.moderation{}": IGNORED,
    "CreateResponseRequest.prompt_cache_options{}": IGNORED,
    "_PaintingFields.svg{}": REFUSED,
    "RerankRequest.max_tokens_per_doc": REFUSED,
    "RerankRequest.max_chunks_per_doc": REFUSED,
    "RerankRequest.rank_fields": REFUSED,
    "TextContent.prompt_cache_breakpoint{}": IGNORED,
    "ImageContent.prompt_cache_breakpoint{}": IGNORED,
    "AudioContent.prompt_cache_breakpoint{}": IGNORED,
    "FileContent.prompt_cache_breakpoint{}": IGNORED,
    "TextBlock.text": CONTEXT,
    "TextSource.data": CONTEXT,
    "ContentSource.content": CONTEXT,
    "ThinkingBlock.thinking": CONTEXT,
    "ThinkingBlock.signature": CONTEXT,
    "ToolUseBlock.input{}": CONTEXT,
    "ToolResultBlock.content": CONTEXT,
    "CompactionBlock.content": CONTEXT,
    "InputMessage.content": CONTEXT,
    "_PromptFields.system": CONTEXT,
    "AnthropicTool.input_schema{}": SCHEMA,
    "JsonOutputFormat.schema{}": SCHEMA,
    "OutputConfig.task_budget": IGNORED,
    "_PromptFields.cache_control": IGNORED,
    "_PromptFields.context_management": IGNORED,
    "_PromptFields.mcp_servers": IGNORED,
    "_PromptFields.compaction": IGNORED,
    "_PromptFields.thread": REFUSED,
    "CreateMessageRequest.metadata{}": IGNORED,
    "CreateMessageRequest.container": IGNORED,
    "CreateMessageRequest.diagnostics": IGNORED,
    "_PromptFields.billing_policy": IGNORED,
    "CreateMessageRequest.fallbacks": IGNORED,
    "CreateMessageRequest.fallback_credit_token": IGNORED,
}


def owner(struct: type, field: str) -> str:
    """The class that says what the field is, so that a reason stands once."""
    return next(one.__name__ for one in reversed(struct.__mro__) if field in getattr(one, "__annotations__", ()))


def unbounded(kind: inspect.Type, where: str, seen: set[type]) -> Iterator[str]:
    match kind:
        case inspect.Metadata(type=inner):
            yield from unbounded(inner, where, seen)
        case inspect.StructType(cls=struct, fields=fields):
            if struct not in seen:
                seen.add(struct)
                for field in fields:
                    yield from unbounded(field.type, f"{owner(struct, field.name)}.{field.name}", seen)
        case inspect.UnionType(types=types):
            for one in types:
                yield from unbounded(one, where, seen)
        case inspect.IntType() | inspect.FloatType():
            if (kind.ge is None and kind.gt is None) or (kind.le is None and kind.lt is None):
                yield where
        case inspect.StrType():
            if kind.max_length is None and kind.pattern is None:
                yield where
        case inspect.ListType() | inspect.VarTupleType():
            if kind.max_length is None:
                yield where
            yield from unbounded(kind.item_type, where + "[]", seen)
        case inspect.DictType():
            if kind.max_length is None:
                yield where
            yield from unbounded(kind.key_type, where + "{}", seen)
            yield from unbounded(kind.value_type, where + "{}", seen)
        case inspect.NoneType() | inspect.BoolType() | inspect.LiteralType() | inspect.EnumType():
            pass
        case _:
            yield where


def all_unbounded() -> set[str]:
    seen: set[type] = set()
    return {where for struct in REQUESTS for where in unbounded(inspect.type_info(struct), struct.__name__, seen)}


def test_whatever_has_no_bounds_has_a_reason() -> None:
    assert all_unbounded() - set(REASONS) == set()


def test_no_reason_is_left_over() -> None:
    assert set(REASONS) - all_unbounded() == set()


def test_the_walk_sees_every_kind_of_thing_without_bounds() -> None:
    class Open(msgspec.Struct):
        number: int
        part: float
        text: str
        several: list[int]
        table: dict[str, bool]
        anything: object

    found = set(unbounded(inspect.type_info(Open), "Open", set()))
    assert found == {
        "Open.number",
        "Open.part",
        "Open.text",
        "Open.several",
        "Open.several[]",
        "Open.table",
        "Open.table{}",
    } | {"Open.anything"}


def test_every_request_that_a_route_reads_is_among_them() -> None:
    handlers = [member for controller in (*GATEWAY_ROUTES, *MODEL_ROUTES) for member in vars(controller).values()]
    endpoints = [handler.opt["endpoint"] for handler in handlers if "endpoint" in (getattr(handler, "opt", None) or {})]
    assert len(endpoints) > 10
    assert {endpoint.request for endpoint in endpoints} <= set(REQUESTS)


PLANS = {ChatCompletionRequest: chat.plan, CompletionRequest: completions.plan, EmbeddingRequest: embeddings.plan}
HELLO = b'{"model": "m", "messages": [{"role": "user", "content": "Hello"}], '
NUMBERS = (
    "n",
    "seed",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "min_tokens",
    "top_logprobs",
)
HOSTILE = {
    "a huge integer": b"1" + b"0" * 400,
    "a negative huge integer": b"-1" + b"0" * 400,
    "a hundred thousand digits": b"9" * 100_000,
    "an endless number": b"1e400",
    "no number": b"NaN",
    "infinity": b"-Infinity",
    "a boolean": b"true",
    "a text": b'"1"',
    "a list": b"[1]",
}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_that_is_none_is_a_refusal_naming_it(field: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(HELLO + b'"%s": %s}' % (field.encode(), HOSTILE[value]), ChatCompletionRequest)
    assert caught.value.code in ("invalid_type", "invalid_value", "invalid_json")
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("value", [b"3.0", b"3.5", b"3e0"])
@pytest.mark.parametrize("field", ["n", "seed", "max_tokens", "top_k"])
def test_a_whole_number_is_written_as_one(field: str, value: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(HELLO + b'"%s": %s}' % (field.encode(), value), ChatCompletionRequest)
    assert caught.value.param == field


@pytest.mark.parametrize("key", ["-1", "1.5", "true", "9" * 400, "2147483648", " 1", "1e3", ""])
def test_a_bias_is_for_a_token_s_id(key: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(HELLO + b'"logit_bias": %s}' % json.dumps({key: 1}).encode(), ChatCompletionRequest)
    assert caught.value.param == "logit_bias"


@pytest.mark.parametrize(
    ("struct", "fields"),
    [
        (CompletionRequest, {"prompt": [[1]] * 2049}),
        (CompletionRequest, {"prompt": ["a"] * 2049}),
        (CompletionRequest, {"prompt": "a", "n": 17}),
        (CompletionRequest, {"prompt": "a", "best_of": 17}),
        (CompletionRequest, {"prompt": "a", "logprobs": 21}),
        (EmbeddingRequest, {"input": ["a"] * 2049}),
        (EmbeddingRequest, {"input": [[1]] * 2049}),
        (EmbeddingRequest, {"input": "a", "dimensions": 2**31}),
        (EmbeddingRequest, {"input": "a", "dimensions": 0}),
        (ChatCompletionRequest, {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 1025}]}),
        (ChatCompletionRequest, {"messages": [{"role": "user"}], "tools": [{"type": "function"}] * 129}),
        (ChatCompletionRequest, {"messages": [{"role": "user"}], "prompt_logprobs": -1, "n": 0}),
    ],
)
def test_lists_and_counts_end_somewhere(struct: type, fields: dict) -> None:
    with pytest.raises(InvalidRequest):
        PLANS[struct](decode(json.dumps({"model": "m", **fields}).encode(), struct))


def test_templates_are_spoken_of_in_chats_alone_and_none_can_be_sent() -> None:
    """``chat_template`` is refused by name; which ``chat_template_kwargs`` there are the tests of chats say."""
    found = {name for struct in REQUESTS for name in struct.__struct_fields__ if "template" in name}
    assert found == {"chat_template", "chat_template_kwargs"}
    for value in ("{{ messages }}", "", [], {"a": 1}):
        body = json.dumps({"model": "m", "messages": [{"role": "user"}], "chat_template": value}).encode()
        with pytest.raises(InvalidRequest) as caught:
            chat.plan(decode(body, ChatCompletionRequest))
        assert caught.value.param == "chat_template"
