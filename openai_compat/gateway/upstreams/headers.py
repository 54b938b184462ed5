"""The headers of a request to an upstream: ours, and of the client's only those that belong to the API."""

from __future__ import annotations

from hashlib import blake2b
from importlib.metadata import version

from openai_compat.config import Upstream
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.upstreams.keys import Pairs

# A list of what goes, so that nothing else does by mistake: keys, cookies, addresses, what an SDK tells of its machine.
_PASSED = frozenset({b"accept", b"anthropic-beta", b"anthropic-version", b"content-type", b"idempotency-key", b"openai-beta"})
_TYPE = b"content-type"
_JSON = (_TYPE, b"application/json")
_REQUEST_ID = b"x-request-id"
_LONGEST_OWNER = 64  # bytes that the hash takes; an owner is 16 characters
_ONCE = b"idempotency-key"


class HeadersFor:
    """Makes the headers for one upstream. What is configured wins over everything."""

    def __init__(self, settings: Upstream) -> None:
        self._configured = {name.lower(): value for name, value in settings.headers.items()}
        self._ours = {"user-agent": f"openai-compat/{version('openai-compat')}", "accept-encoding": "identity"}
        self._made_for: Pairs | None = None
        self._fixed: Headers = []
        self._passed: frozenset[bytes] = _PASSED
        self._typed = self._identified = False

    def make(self, client: Headers, key: Pairs, request_id: str, *, body: bool, owner: str = "") -> Headers:
        """``client``'s names are in lower case; ``owner`` is whose request it is. A ``body`` without a type is JSON."""
        if key is not self._made_for:
            self._fix(key)
        headers, passed, typed = self._fixed.copy(), self._passed, self._typed
        for pair in client:
            if pair[0] in passed:
                headers.append(_own(pair, owner) if pair[0] == _ONCE else pair)
                typed = typed or pair[0] == _TYPE
        if not self._identified:
            headers.append((_REQUEST_ID, request_id.encode("latin-1")))
        if body and not typed:
            headers.append(_JSON)
        return headers

    def _fix(self, key: Pairs) -> None:
        """Those that are the same for every request."""
        fixed = {**self._ours, **dict(key), **self._configured}
        self._fixed = [(name.encode("latin-1"), value.encode()) for name, value in fixed.items()]
        names = frozenset(name for name, _ in self._fixed)
        self._passed = _PASSED - names
        self._typed, self._identified = _TYPE in names, _REQUEST_ID in names
        self._made_for = key


def _own(pair: tuple[bytes, bytes], owner: str) -> tuple[bytes, bytes]:
    """To an upstream all our clients are one: of two that number their requests alike one would get the other's answer."""
    name, value = pair
    return name, blake2b(value, key=owner.encode()[:_LONGEST_OWNER], digest_size=16).hexdigest().encode() if owner else value
