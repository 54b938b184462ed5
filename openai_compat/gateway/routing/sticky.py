"""What keeps the requests of a conversation together, so that the target that knows its beginning already gets the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from openai_compat.gateway.order import Order

# The first that a request has. The plain one is OpenRouter's, which several agents send by themselves; the others are those
# of opencode, LiteLLM, Claude Code and Codex.
SESSION_HEADERS = (
    b"x-session-id",
    b"x-session-affinity",
    b"x-litellm-session-id",
    b"x-claude-code-session-id",
    b"session-id",
    b"session_id",
)
_LONGEST_PREFIX = 4096  # bytes of a prompt that is one text


class _Prompt(Struct):
    """Where a prompt's beginning may be. What is not looked at stays bytes."""

    messages: list[Raw] | None = None
    instructions: Raw = Raw(b"")
    input: Raw = Raw(b"")
    prompt: Raw = Raw(b"")


class _Role(Struct):
    role: Any = None


_prompt = msgspec.json.Decoder(_Prompt)
_role = msgspec.json.Decoder(_Role)


def sticky_key(kind: str, order: Order) -> bytes | None:
    """What requests that belong together have in common; None where this one belongs to no others."""
    return _KINDS[kind](order) if kind else None


def _user(order: Order) -> bytes | None:
    return _text(order.envelope.user)


def _cache_key(order: Order) -> bytes | None:
    return _text(order.envelope.prompt_cache_key)


def _session(order: Order) -> bytes | None:
    sent = {name.lower(): value for name, value in reversed(order.headers)}
    return next((sent[name] for name in SESSION_HEADERS if sent.get(name)), None)


def _prefix(order: Order) -> bytes | None:
    """The messages up to the user's first one, which later turns repeat; or the beginning of a prompt that is no messages."""
    if not isinstance(order.body, bytes):
        return None
    try:
        prompt = _prompt.decode(order.body)
        if prompt.messages:
            return b"\n".join(_opening(prompt.messages))
    except msgspec.DecodeError:  # the target will say what is wrong with it
        return None
    return (bytes(prompt.instructions) + bytes(prompt.input or prompt.prompt))[:_LONGEST_PREFIX] or None


def _opening(messages: list[Raw]) -> list[bytes]:
    opening = []
    for message in messages:
        opening.append(bytes(message))
        if _role.decode(message).role == "user":
            break
    return opening


def _text(value: Any) -> bytes | None:
    return value.encode() if isinstance(value, str) and value else None


_KINDS: dict[str, Callable[[Order], bytes | None]] = {
    "user": _user,
    "session": _session,
    "prompt_cache_key": _cache_key,
    "prefix": _prefix,
}
