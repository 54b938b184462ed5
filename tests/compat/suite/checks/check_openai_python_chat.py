"""Chat, by OpenAI's Python SDK."""

from __future__ import annotations

from typing import Any

from kit.checks import checks
from kit.server import Server

check = checks("openai-python", needs=("chat",))
FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


@check("chat.whole", "A whole answer has a text, a finish_reason and consistent usage.")
def check_whole(server: Server, openai_client: Any) -> None:
    answer = openai_client.chat.completions.create(model=server.model, messages=FRANCE, max_tokens=16, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 16
