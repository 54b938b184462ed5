"""Where a request for an upstream goes."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, unquote, unquote_plus, urlencode

from yarl import URL

from openai_compat.config import ConfigError, Upstream
from openai_compat.errors import ModelNotFound, NotFound

_VERSION = "/v1"
_MODEL = "{model}"
_NAME = "model"  # Go's reader of forms takes what a query says before what the form does
_REMEMBERED = 1024
_UNSAFE = frozenset({".", ".."})  # a server may leave the base path by them, and our key is with the request
_SCHEMES = ("http", "https")


class Addresses:
    """The addresses of one upstream. Raises ``ConfigError`` where its ``base_url`` is none."""

    def __init__(self, settings: Upstream) -> None:
        self._base = settings.base_url.rstrip("/")
        self._query = urlencode(settings.query)
        self._ours = frozenset({*settings.query, _NAME})
        self.origin = _checked(self._base)
        self._remembered = lru_cache(maxsize=_REMEMBERED)(self._build)
        self._names_model = _MODEL in self._base

    def of(self, path: str, query: str, remote_name: str) -> URL:
        """For a ``path`` that begins with ``/v1``, as it came, and the client's own ``query``.

        Raises ``NotFound`` for a path, and ``ModelNotFound`` for a model, that would lead out of the base.
        """
        return self._remembered(path, query, remote_name if self._names_model else "")

    def _build(self, path: str, query: str, remote_name: str) -> URL:
        if _leads_out(unquote(path)):
            raise NotFound("There is nothing here.")
        if _leads_out(unquote(remote_name)):  # some servers undo the quoting of slashes before they look at dots
            raise ModelNotFound(remote_name)
        base = self._base.replace(_MODEL, quote(remote_name, safe=""))
        parts = [self._query, *(part for part in query.split("&") if part and not self._is_ours(part))]
        asked = "&".join(part for part in parts if part)
        return URL(f"{base}{path.removeprefix(_VERSION)}{'?' if asked else ''}{asked}", encoded=True)

    def _is_ours(self, part: str) -> bool:
        """Whether the configuration has the say about this one."""
        return unquote_plus(part.partition("=")[0]) in self._ours


def _leads_out(path: str) -> bool:
    return any(part in _UNSAFE for part in path.replace("\\", "/").split("/"))


def _checked(base: str) -> URL:
    """The origin of ``base``."""
    try:
        url = URL(base.replace(_MODEL, "model"))
        if url.scheme in _SCHEMES and url.host and not (url.user or url.password or url.query_string or url.fragment):
            return url.origin()
    except ValueError:
        pass
    raise ConfigError(
        "The base_url of an upstream begins with http:// or https:// and a host, and ends where /chat/completions follows; "
        "what belongs into its query is under 'query', and keys are not a part of it."
    )
