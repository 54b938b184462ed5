"""Chat, by OpenAI's Python SDK: whole answers and streams."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from kit.checks import checks
from kit.curl import Curl
from kit.expect import assert_error, finishes, joined
from kit.server import Server

check = checks("openai-python", needs=("chat",))
FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
STORY: list[Any] = [{"role": "user", "content": "Tell me a story about a fox and a river."}]


def ask(client: Any, server: Server, messages: Any = FRANCE, **fields: Any) -> Any:
    return client.chat.completions.create(
        model=server.model, messages=messages, **{"max_tokens": 16, "temperature": 0, **fields}
    )


@check("chat.whole", "A whole answer has a text, a finish_reason, and usage that adds up.")
def check_whole(server: Server, openai_client: Any) -> None:
    answer = ask(openai_client, server)
    assert answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 16


@check("chat.request-id", "The SDK finds a request id on an answer.")
def check_request_id(server: Server, openai_client: Any) -> None:
    assert ask(openai_client, server)._request_id


@check("chat.model-named", "The answer names a model, as text.")
def check_model_named(server: Server, openai_client: Any) -> None:
    assert ask(openai_client, server, max_tokens=1).model


@check("chat.stream.text", "A stream's pieces are a text, in more than one piece.")
def check_stream(server: Server, openai_client: Any) -> None:
    chunks = list(ask(openai_client, server, STORY, stream=True))
    assert joined(chunks)
    assert sum(1 for chunk in chunks if chunk.choices and chunk.choices[0].delta.content) > 1, "all in one piece"


@check("chat.stream.as-whole", "Greedy, a stream adds up to the whole answer.", promise="ours")
def check_stream_as_whole(server: Server, openai_client: Any) -> None:
    whole = ask(openai_client, server, STORY).choices[0].message.content
    assert joined(ask(openai_client, server, STORY, stream=True)) == whole


@check("chat.stream.one-id", "All chunks of a stream have the same id, created and model.")
def check_stream_id(server: Server, openai_client: Any) -> None:
    chunks = list(ask(openai_client, server, stream=True))
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].id


@check("chat.stream.role-first", "The first chunk says that the role is assistant, and no other a different one.")
def check_stream_role(server: Server, openai_client: Any) -> None:
    chunks = [chunk for chunk in ask(openai_client, server, stream=True) if chunk.choices]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.choices[0].delta.role for chunk in chunks} <= {"assistant", None}


@check("chat.stream.finish-once", "Each choice of a stream has exactly one finish_reason, as its last word.")
def check_stream_finish(server: Server, openai_client: Any) -> None:
    chunks = [chunk for chunk in ask(openai_client, server, stream=True) if chunk.choices]
    assert len(finishes(chunks)) == 1, f"finish reasons {finishes(chunks)}"
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


@check("chat.stream.usage-only-when-asked", "No chunk has usage unless stream_options.include_usage asks for it.")
def check_usage_unasked(server: Server, openai_client: Any) -> None:
    chunks = list(ask(openai_client, server, stream=True))
    assert not [chunk.usage for chunk in chunks if chunk.usage]
    assert all(chunk.choices for chunk in chunks), "a chunk without choices"


@check("chat.stream.usage-when-asked", "With include_usage one more chunk, the last, has the usage, and `choices` empty.")
def check_usage_asked(server: Server, openai_client: Any) -> None:
    chunks = list(ask(openai_client, server, stream=True, stream_options={"include_usage": True}))
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens


@check("chat.stream.usage-as-whole", "A stream's usage is the whole answer's.")
def check_usage_as_whole(server: Server, openai_client: Any) -> None:
    whole = ask(openai_client, server, max_tokens=4).usage
    *_, last = ask(openai_client, server, max_tokens=4, stream=True, stream_options={"include_usage": True})
    assert last.usage is not None, "no usage"
    assert last.usage.prompt_tokens == whole.prompt_tokens


@check("chat.stream.helper", "The SDK's stream() helper puts the answer together and ends without an error.")
def check_stream_helper(server: Server, openai_client: Any) -> None:
    with openai_client.chat.completions.stream(model=server.model, messages=FRANCE, max_tokens=16, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content


@check("chat.stream.left", "A client that leaves a stream frees the server for the next ones.")
def check_left(server: Server, openai_client: Any) -> None:
    ask(openai_client, server, max_tokens=2)
    for _ in range(6):
        stream = ask(openai_client, server, STORY, max_tokens=1500, stream=True)
        next(iter(stream))
        stream.close()
    answer = ask(openai_client.with_options(timeout=10), server, max_tokens=2)
    assert answer.choices


@check("chat.many-at-once", "Eight requests at once are all answered.")
def check_many(server: Server, openai_client: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(openai_client, server, max_tokens=8), range(8)))
    assert all(answer.choices[0].finish_reason for answer in answers)
    assert len({answer.id for answer in answers}) == 8


@check("chat.async", "The asynchronous client streams, too.")
def check_async(server: Server) -> None:
    import asyncio

    async def run() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=50) as client:
            return [chunk async for chunk in await ask(client, server, stream=True)]

    assert joined(asyncio.run(run()))


@check("chat.error.model", "An unknown model is a NotFoundError with the code model_not_found.")
def check_unknown_model(server: Server, openai_client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.chat.completions.create(model="no-such-model-anywhere", messages=FRANCE, max_tokens=1)
    assert caught.value.code == "model_not_found"
    assert "no-such-model-anywhere" in caught.value.message


@check("chat.error.model-stream", "An unknown model is an error before a stream begins, not one within.")
def check_unknown_model_stream(server: Server, openai_client: Any) -> None:
    with pytest.raises(openai.NotFoundError):
        openai_client.chat.completions.create(model="no-such-model-anywhere", messages=FRANCE, max_tokens=1, stream=True)


@check("chat.error.context", "A prompt longer than the context is a 400 with the code context_length_exceeded.")
def check_context(server: Server, curl: Curl) -> None:
    asked = {"model": server.model, "messages": [{"role": "user", "content": "apple " * 9000}], "max_tokens": 1}
    answer = curl.post("/chat/completions", asked)
    if answer.status == 200:
        pytest.skip("9,000 words fit into the context")
    assert_error(answer, 400, code="context_length_exceeded")
