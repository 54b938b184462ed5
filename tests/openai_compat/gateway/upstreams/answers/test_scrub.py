"""No text of an upstream tells what it was told in confidence, or where it lives."""

from __future__ import annotations

import time

import pytest

from openai_compat.gateway.upstreams.scrub import HIDDEN, addresses_of, scrub, scrub_message

BASE = "https://llm.example.net:8443/tenants/blue/v1"
SECRETS = ("topsecret-value", *addresses_of(BASE))


@pytest.mark.parametrize(
    "text",
    [
        "bad key topsecret-value",
        "bad key TOPSECRET-VALUE.",
        "Incorrect API key provided: sk-proj-abc****wxyz.",
        "Incorrect API key provided: gsk_abcdefghijklmnop",
        "header Authorization: Bearer abc.def.ghi was refused",
        "api_key=abcdef0123",
        "AIzaSyA-1234567890abcdefghij",
        "limit for organization org-AbCdEf123456 on tokens",
        "POST https://llm.example.net:8443/tenants/blue/v1/chat/completions failed",
        "host llm.example.net is down",
        "no route /tenants/blue/v1/models",
        "connect to 10.1.2.3:8000 refused",
        "connect to [fe80::1:2]:80 refused",
        "connect to localhost:11434 refused",
        "worker-3.llm.svc.cluster.local is down",
        "cannot open /root/.cache/huggingface/token",
        "see /vllm/engine/core.py:33",
        'failed\nTraceback (most recent call last):\n  File "/a/b.py", line 1, in x\n    topsecret',
        'failed File "/opt/x/y.py"',
        "TypeError: x\n    at run (/app/index.js:3:4)",
    ],
)
def test_what_nobody_may_read_is_gone(text: str) -> None:
    said = scrub_message(text, SECRETS)
    telling = ("topsecret", "wxyz", "abcdef", "abc.def", "AIza", "AbCdEf", "example.net", "blue", "10.1.2.3", "fe80", "11434")
    assert not any(
        word.lower() in said.lower() for word in (*telling, "svc", "huggingface", "core.py", "b.py", "y.py", "index.js")
    )


@pytest.mark.parametrize(
    "text",
    [
        "Unsupported value: 'temperature' does not support 3 with this model. Only 0 to 2 is supported.",
        "Invalid schema for function 'get_weather': In context=('properties', 'a'), 'required' is missing.",
        "You can find your limits at https://platform.openai.com/docs/guides/rate-limits.",
        "messages[0].content[1].image_url must be a data: URL or https://…",
        "Größe zu groß: 4096 px, 3 €",
        "use and/or combine: a/b, c/d; task-based org charts, sk-i",
        "version 1.2.3 of the API",
        "max_tokens: 5 > 4\nPlease lower it.",
    ],
)
def test_what_helps_the_user_stays_word_for_word(text: str) -> None:
    assert scrub_message(text, SECRETS) == text


def test_messages_are_of_bounded_length() -> None:
    assert len(scrub_message("ä" * 1_000_000)) == 2000


@pytest.mark.parametrize(
    "text", [" ", "\n", "a-", "a.", "org-", "/a.py", "\nat ", "1.", ":", "bearer ", "File ", "api_key ", "[::"]
)
def test_no_text_takes_long(text: str) -> None:
    began = time.perf_counter()
    scrub_message(text * 20_000, SECRETS)
    assert time.perf_counter() - began < 2


def test_no_part_of_a_secret_is_left_where_a_long_text_is_cut() -> None:
    for length in range(3980, 4000):
        assert "tops" not in scrub_message("topsecret-value" * 255 + "x" * (length - 255 * 15) + "topsecret-value", SECRETS)


def test_control_characters_do_not_get_through() -> None:
    assert scrub_message("a\x00b\x1b[31mc\nd") == "a b [31mc\nd"


def test_short_values_are_not_blanked_out_of_every_text() -> None:
    assert scrub("a key of v1", ("v1", "a")) == "a key of v1"


def test_an_address_gives_its_parts_away_and_a_usual_path_does_not() -> None:
    assert set(addresses_of("http://h:1/v1")) == {"http://h:1/v1", "http://h:1", "h:1", "h"}
    assert "/tenants/blue/v1" in addresses_of(BASE)
    assert {"https://x.azure.com", "/openai/deployments"} < set(addresses_of("https://x.azure.com/openai/deployments/{model}"))
    assert addresses_of("http://[bad") == ("http://[bad",)
    assert HIDDEN in scrub("at https://llm.example.net:8443/tenants/blue/v1", SECRETS)
