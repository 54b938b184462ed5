"""Text completions, by OpenAI's Python SDK."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from kit.checks import checks
from kit.expect import unless_refused
from kit.server import Server

check = checks("openai-python", needs=("completions",))


def ask(client: Any, server: Server, prompt: Any = "One, two, three,", **fields: Any) -> Any:
    return client.completions.create(model=server.model, prompt=prompt, **{"max_tokens": 8, "temperature": 0, **fields})


@check("completions.whole", "A prompt is continued.")
def check_whole(server: Server, openai_client: Any) -> None:
    answer = ask(openai_client, server)
    assert answer.choices[0].text
    assert answer.usage.completion_tokens <= 8


@check("completions.stream", "A stream's pieces are a text, with one finish_reason.")
def check_stream(server: Server, openai_client: Any) -> None:
    chunks = [chunk for chunk in ask(openai_client, server, stream=True) if chunk.choices]
    assert "".join(chunk.choices[0].text or "" for chunk in chunks)
    assert len([chunk for chunk in chunks if chunk.choices[0].finish_reason]) == 1


@check("completions.list", "A list of prompts gives a choice for each, in order.")
def check_list(server: Server, openai_client: Any) -> None:
    with unless_refused("prompt"):
        answer = ask(openai_client, server, ["One, two, three,", "a, b, c,"], max_tokens=4)
    assert [choice.index for choice in answer.choices] == [0, 1]


@check("completions.tokens", "A prompt may be a list of token ids.")
def check_tokens(server: Server, openai_client: Any) -> None:
    with unless_refused("prompt"):
        answer = ask(openai_client, server, [500, 501, 502], max_tokens=4)
    assert answer.usage.prompt_tokens in {3, 4}  # one more where a model has a token to begin with


@check("completions.echo", "echo puts the prompt before the text.")
def check_echo(server: Server, openai_client: Any) -> None:
    with unless_refused("echo"):
        answer = ask(openai_client, server, echo=True, max_tokens=4)
    assert answer.choices[0].text.startswith("One, two, three,")


@check("completions.logprobs", "logprobs gives tokens, their logprobs and the places in the text where they begin.")
def check_logprobs(server: Server, openai_client: Any) -> None:
    with unless_refused("logprobs"):
        answer = ask(openai_client, server, logprobs=2, max_tokens=4)
    found = answer.choices[0].logprobs
    assert found, "ignored"
    assert len(found.tokens) == len(found.token_logprobs) == len(found.text_offset)


@check("completions.stop", "A stop string is not in the text.")
def check_stop(server: Server, openai_client: Any) -> None:
    text = ask(openai_client, server, max_tokens=16).choices[0].text
    answer = ask(openai_client, server, max_tokens=16, stop=text[3:7])
    assert text[3:7] not in answer.choices[0].text


@check("completions.error.model", "An unknown model is a NotFoundError with the code model_not_found.")
def check_unknown_model(openai_client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        openai_client.completions.create(model="no-such-model-anywhere", prompt="Hi", max_tokens=1)
    assert caught.value.code == "model_not_found"
