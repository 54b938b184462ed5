"""The handler of docs/adding-a-handler.md, from a distribution of its own, answers a real client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-handler.md"
PLUGINS = "[openai_compat.handlers]\nbackwards = backwards:BackwardsHandler\n"


@pytest.fixture
def mirror(tmp_path: Path, start_server: Callable[..., Any]) -> Iterator[openai.OpenAI]:
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    code, config = blocks[0][1], blocks[-1][1]
    facts = tmp_path / "site" / "backwards-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts.parent / "backwards.py").write_text(code)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: backwards\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(PLUGINS)
    (tmp_path / "config.toml").write_text(config)
    server = start_server(tmp_path / "config.toml", env={"PYTHONPATH": str(facts.parent)})
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
        yield client


def test_the_example_answers_whole_streamed_and_in_its_mode(mirror: openai.OpenAI) -> None:
    chat = mirror.chat.completions
    said = [{"role": "user", "content": "one two"}]
    assert chat.create(model="mirror", messages=said).choices[0].message.content == "owt eno"
    chunks = list(chat.create(model="mirror", messages=said, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "owt eno"
    assert chat.create(model="mirror:words", messages=said).choices[0].message.content == "two one"
    with pytest.raises(openai.BadRequestError, match="does not support"):
        mirror.embeddings.create(model="mirror", input="x")


def test_the_example_honours_a_field_or_refuses_it_by_name(mirror: openai.OpenAI) -> None:
    answer = mirror.completions.create(model="mirror", prompt=["abc", "de"], n=2, max_tokens=2)
    assert [choice.text for choice in answer.choices] == ["cb", "cb", "ed", "ed"]
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length", "stop", "stop"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 8)
    for field, value in {"stop": "b", "logprobs": 1, "echo": True, "logit_bias": {"1": 1}, "prompt": [1, 2]}.items():
        with pytest.raises(openai.BadRequestError) as caught:
            mirror.completions.create(**{"model": "mirror", "prompt": "abc", field: value})
        assert caught.value.param == field
