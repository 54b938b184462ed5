"""The headers of a request to an upstream: ours, and of the client's only those that belong to the API."""

from __future__ import annotations

from importlib.metadata import version

from multidict import CIMultiDict

from openai_compat.config import Upstream
from openai_compat.gateway.replica import Headers
from openai_compat.gateway.upstreams.keys import Pairs

# A list of what goes, so that nothing else does by mistake: keys, cookies, addresses, what an SDK tells of its machine.
_PASSED = {
    b"accept": "accept",
    b"anthropic-beta": "anthropic-beta",
    b"anthropic-version": "anthropic-version",
    b"content-type": "content-type",
    b"idempotency-key": "idempotency-key",
    b"openai-beta": "openai-beta",
}
_TYPE = "content-type"
_JSON = "application/json"


class HeadersFor:
    """Makes the headers for one upstream. What is configured wins over everything."""

    def __init__(self, settings: Upstream) -> None:
        self._configured = {name.lower(): value for name, value in settings.headers.items()}
        self._ours = {"user-agent": f"openai-compat/{version('openai-compat')}", "accept-encoding": "identity"}
        self._made_for: Pairs | None = None
        self._fixed: CIMultiDict[str] = CIMultiDict()

    def make(self, client: Headers, key: Pairs, request_id: str, *, body: bool) -> CIMultiDict[str]:
        """``client``'s names are in lower case. A ``body`` without a type is JSON."""
        if key is not self._made_for:
            self._fixed = CIMultiDict({**self._ours, **dict(key), **self._configured})
            self._made_for = key
        headers = self._fixed.copy()
        for name, value in client:
            passed = _PASSED.get(name)
            if passed is not None and passed not in self._fixed:
                headers.add(passed, value.decode("latin-1"))
        headers.setdefault("x-request-id", request_id)
        if body:
            headers.setdefault(_TYPE, _JSON)
        return headers
