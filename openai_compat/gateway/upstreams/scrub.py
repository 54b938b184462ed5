"""Texts of an upstream, made fit for a client: without our keys, without its address, and of bounded length."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from openai_compat.gateway.upstreams.plan import SendPlan

HIDDEN = "[hidden]"
_LONGEST = 2000  # characters of a message
_LONGEST_READ = 4000  # characters of it that are looked at, since the patterns below may look at each of them often
_SHORTEST = 4  # characters of a secret; shorter ones would blank out half a text
_USUAL_PATHS = frozenset({"", "/", "/v1", "/v1/"})
_CREDENTIALS = re.compile(
    r"\b(?:authorization|api[-_]?key|x-api-key)\b\s*[:=]\s*(?:bearer\s+|basic\s+)?[^\s\"'\\,;]+"
    r"|\bbearer\s+[^\s\"'\\,;]{8,}|\bbasic\s+[\w+/]{16,}=*"
    r"|\b(?:sk|pk|rk|gsk|hf|xai|r8|pplx|nvapi|csk|fw|tgp)[-_][\w*.-]{6,}"
    r"|\b(?:org|proj)[-_](?=[\w-]{0,40}\d)[\w-]{6,}"
    r"|\bAIza[\w*-]{16,}",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"
    r"|\[[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}\](?::\d+)?"
    r"|\blocalhost(?::\d+)?\b"
    r"|\b[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.(?:internal|local|svc|lan|corp)\b(?:[.:][\w.:-]+)?",
    re.IGNORECASE,
)
_FILE = re.compile(
    r"(?<![\w/:.])/(?:app|data|etc|home|mnt|models|opt|root|srv|tmp|usr|var|workspace)/[^\s\"'\\,;)]*"
    r"|(?<![\w/:.])(?:/[\w.@+-]+)+\.(?:py|pyc|js|ts|go|rs|cc|cpp|java|rb|php)\b(?::\d+)?"
    r"|\b[A-Z]:\\\\?[^\s\"',;)]+"
)
_TRACE = re.compile(
    r"(?:Traceback \(most recent call last\)|stack backtrace:"
    r"|(?:\\n|\s) {0,8}File \"|(?:\n|\\n)[ \t]{0,16}at \S{1,200}[ (]).*",
    re.DOTALL,
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def addresses_of(base_url: str) -> tuple[str, ...]:
    """What of an upstream's address gives it away: the whole, the host with its port, the host, an unusual path."""
    try:
        parts = urlsplit(base_url.partition("{")[0])
        host = parts.hostname or ""
    except ValueError:
        return (base_url,)
    path = parts.path.rstrip("/")
    found = (base_url, base_url.rstrip("/"), f"{parts.scheme}://{parts.netloc}", parts.netloc, host)
    return tuple(dict.fromkeys(text for text in (*found, "" if path in _USUAL_PATHS else path) if text))


def hidden(plan: SendPlan) -> tuple[str, ...]:
    """What of an upstream nobody may read in its answers."""
    return (*plan.secrets, *addresses_of(plan.upstream.base_url))


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """``text`` as anybody may read it. ``secrets`` are replaced wherever they stand, in any case of letters."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = re.sub(re.escape(secret), HIDDEN, text, flags=re.IGNORECASE)
    return _CREDENTIALS.sub(HIDDEN, text)


def scrub_message(text: str, secrets: Iterable[str] = ()) -> str:
    """A message of an error: stack traces, addresses and files go too, and so does what is longer than anybody reads."""
    text = _TRACE.sub("", scrub(text, secrets)[:_LONGEST_READ])
    text = _FILE.sub(HIDDEN, _ADDRESS.sub(HIDDEN, text))
    text = _CONTROLS.sub(" ", text).strip()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
