"""What the fields of a chat request do, by OpenAI's Python SDK: a known one is honoured or refused by name, never ignored."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from kit.checks import checks
from kit.expect import finishes, joined, unless_refused
from kit.server import Server

check = checks("openai-python", needs=("chat",))
FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
STORY: list[Any] = [{"role": "user", "content": "Tell me a story about a fox and a river."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"enum": ["small", "large"]}},
    "required": ["city", "size"],
    "additionalProperties": False,
}


def ask(client: Any, server: Server, messages: Any = FRANCE, **fields: Any) -> Any:
    return client.chat.completions.create(
        model=server.model, messages=messages, **{"max_tokens": 16, "temperature": 0, **fields}
    )


@check("chat.max_tokens", "max_tokens ends the answer with the finish_reason length.")
def check_max_tokens(server: Server, openai_client: Any) -> None:
    answer = ask(openai_client, server, STORY, max_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens <= 5


@check("chat.max_completion_tokens", "max_completion_tokens ends the answer as max_tokens does.")
def check_max_completion_tokens(server: Server, openai_client: Any) -> None:
    answer = openai_client.chat.completions.create(model=server.model, messages=STORY, max_completion_tokens=5, temperature=0)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens <= 5


@check("chat.n", "n=2 gives two choices.")
def check_n(server: Server, openai_client: Any) -> None:
    with unless_refused("n"):
        answer = ask(openai_client, server, n=2, temperature=1, max_tokens=8)
    assert [choice.index for choice in answer.choices] == [0, 1]


@check("chat.n.stream", "n=2 with a stream gives two choices, told apart by their index, each with one finish_reason.")
def check_n_stream(server: Server, openai_client: Any) -> None:
    with unless_refused("n"):
        chunks = list(ask(openai_client, server, n=2, temperature=1, max_tokens=8, stream=True))
    assert [len(finishes(chunks, index)) for index in (0, 1)] == [1, 1]


@check("chat.logprobs", "logprobs gives one entry per token, each with as many top_logprobs as asked for.")
def check_logprobs(server: Server, openai_client: Any) -> None:
    with unless_refused("logprobs"):
        answer = ask(openai_client, server, logprobs=True, top_logprobs=3, max_tokens=6)
    assert answer.choices[0].logprobs, "ignored"
    content = answer.choices[0].logprobs.content
    assert len(content) in {answer.usage.completion_tokens, answer.usage.completion_tokens - 1}  # the end is a token, too
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in content)
    assert all(token.top_logprobs[0].logprob >= token.top_logprobs[2].logprob for token in content)


@check("chat.logprobs.stream", "logprobs come with a stream, too, and their tokens are its text.")
def check_logprobs_stream(server: Server, openai_client: Any) -> None:
    with unless_refused("logprobs"):
        chunks = list(ask(openai_client, server, logprobs=True, max_tokens=6, stream=True))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content or ()]
    assert tokens, "ignored"
    assert "".join(token.token for token in tokens).startswith(joined(chunks))


@check("chat.response_format.json_schema", "response_format with a JSON schema gives JSON that keeps to it.")
def check_json_schema(server: Server, openai_client: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    with unless_refused("response_format", "json_schema"):
        answer = ask(openai_client, server, response_format=wanted, max_tokens=64)
    found = json.loads(answer.choices[0].message.content)
    assert set(found) == {"city", "size"}
    assert found["size"] in {"small", "large"}


@check("chat.response_format.json_schema.stream", "The same with a stream.")
def check_json_schema_stream(server: Server, openai_client: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    with unless_refused("response_format", "json_schema"):
        chunks = list(ask(openai_client, server, response_format=wanted, max_tokens=64, stream=True))
    assert set(json.loads(joined(chunks))) == {"city", "size"}


@check("chat.response_format.json_object", "response_format json_object gives a JSON object.")
def check_json_object(server: Server, openai_client: Any) -> None:
    messages = [{"role": "user", "content": 'Reply with a JSON object: {"city": "Paris"}'}]
    with unless_refused("response_format", "json_object"):
        answer = ask(openai_client, server, messages, response_format={"type": "json_object"}, max_tokens=200)
    if answer.choices[0].finish_reason == "length":
        assert answer.choices[0].message.content.lstrip().startswith("{"), "no object was begun"
        pytest.skip("the model did not end its object within 200 tokens")
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@check("chat.response_format.parse", "The SDK's parse() gives an object of the caller's class.")
def check_parse(server: Server, openai_client: Any) -> None:
    from typing import Literal

    from pydantic import BaseModel, Field

    class City(BaseModel):
        city: str = Field(max_length=12)
        size: Literal["small", "large"]

    with unless_refused("response_format", "json_schema"):
        answer = openai_client.chat.completions.parse(
            model=server.model, messages=FRANCE, response_format=City, max_tokens=64, temperature=0
        )
    assert isinstance(answer.choices[0].message.parsed, City)


@check("chat.response_format.unknown", "An unknown response_format is a 400, not an answer that ignores it.")
def check_unknown_format(server: Server, openai_client: Any) -> None:
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)):
        ask(openai_client, server, response_format={"type": "sonnet"})


@check("chat.stop", "A stop string ends the answer before it, also where it goes across tokens.")
def check_stop(server: Server, openai_client: Any) -> None:
    text = ask(openai_client, server, STORY, max_tokens=24).choices[0].message.content
    stop = text[7:12]  # some letters of two words, or of one
    answer = ask(openai_client, server, STORY, max_tokens=24, stop=stop)
    assert stop not in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


@check("chat.stop.stream", "A stop string is not in a stream, not even its begin.")
def check_stop_stream(server: Server, openai_client: Any) -> None:
    text = ask(openai_client, server, STORY, max_tokens=24).choices[0].message.content
    stop = text[7:12]
    chunks = list(ask(openai_client, server, STORY, max_tokens=24, stop=[stop, "never to be seen"], stream=True))
    assert stop not in joined(chunks)
    assert joined(chunks) == text[: text.index(stop)]
    assert finishes(chunks) == ["stop"]


@check("chat.logit_bias", "A logit_bias of 100 makes the answer that token.")
def check_logit_bias(server: Server, openai_client: Any) -> None:
    with unless_refused("logit_bias"):
        one = ask(openai_client, server, logit_bias={"500": 100}, max_tokens=2).choices[0].message.content
        more = ask(openai_client, server, logit_bias={"500": 100}, max_tokens=6).choices[0].message.content
    piece = one[: max(1, len(one) // 2)]
    assert piece.strip(), f"the answer is {one!r}"
    assert more.replace(piece.strip(), "").strip() == "", f"the answer is {more!r}"


@check("chat.temperature.zero", "Temperature 0 answers the same twice.", promise="ours")
def check_greedy(server: Server, openai_client: Any) -> None:
    first, second = (ask(openai_client, server, STORY, max_tokens=24).choices[0].message.content for _ in range(2))
    assert first == second


@check("chat.temperature.samples", "A temperature above 0 samples: of four answers not all are the same.")
def check_samples(server: Server, openai_client: Any) -> None:
    assert (
        len({ask(openai_client, server, STORY, temperature=1.2, max_tokens=16).choices[0].message.content for _ in range(4)})
        > 1
    )


@check("chat.seed", "The same seed samples the same answer.", promise="ours")
def check_seed(server: Server, openai_client: Any) -> None:
    with unless_refused("seed"):
        first, second = (ask(openai_client, server, STORY, seed=7, temperature=1) for _ in range(2))
    assert first.choices[0].message.content == second.choices[0].message.content


@check(
    "chat.fields.harmless", "Fields that change no answer are taken: metadata, store, user, service_tier, prompt_cache_key, …."
)
def check_harmless(server: Server, openai_client: Any) -> None:
    answer = ask(
        openai_client,
        server,
        max_tokens=2,
        metadata={"a": "b"},
        store=False,
        user="somebody",
        service_tier="auto",
        prompt_cache_key="key",
        safety_identifier="id",
    )
    assert answer.choices


@check("chat.fields.unknown", "Fields that nobody knows are taken, since clients send those of other servers.", promise="ours")
def check_unknown_fields(server: Server, openai_client: Any) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "made_up_by_nobody": [1, {"a": None}]}
    assert ask(openai_client, server, max_tokens=2, extra_body=extra).choices


NULLS = ("stop", "n", "seed", "logprobs", "top_p", "response_format", "tools", "tool_choice", "logit_bias", "stream_options")


@check("chat.fields.null", "null in an optional field is as if it were not there.", promise="ours")
def check_null(server: Server, openai_client: Any) -> None:
    assert ask(openai_client, server, max_tokens=2, extra_body=dict.fromkeys(NULLS)).choices


BAD = {
    "temperature": 9,
    "top_p": 7,
    "n": 0,
    "max_tokens": -1,
    "frequency_penalty": 100,
    "messages": [],
    "stop": ["a", "b", "c", "d", "e", "f"],
    "logit_bias": {"1": 1000},
}


def _bad(field: str) -> Any:
    says = f"A value of `{field}` that is out of bounds is a 400."

    @check(f"chat.bad.{field}", says)
    def check_bad(server: Server, openai_client: Any) -> None:
        with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)) as caught:
            ask(openai_client, server, extra_body={field: BAD[field]}, timeout=15)
        assert caught.value.status_code == 400

    return check_bad


globals().update({f"check_bad_{field}": _bad(field) for field in BAD})
