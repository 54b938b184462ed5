"""URLs of other servers' pictures and sounds: which are taken at all, read once and by this module alone.

What two parsers may read in two ways is refused, since a check by one of them proves nothing about the other. So nothing
downstream gets the text again: it gets the parts that were checked here.
"""

from __future__ import annotations

import ipaddress
import re

from msgspec import Struct

from openai_compat.errors import InvalidRequest, UnsupportedParameter

PORTS = {"http": 80, "https": 443}
_LONGEST = 4096
_CHARACTER = r"[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2}"
# No user, no fragment, no backslash, no blank, no control character, nothing beyond ASCII.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    rf"(?P<path>/(?:{_CHARACTER})*)?(?:\?(?P<query>(?:{_CHARACTER}|\?)*))?",
    re.IGNORECASE | re.ASCII,  # else the Kelvin sign is a k, and the long s an s
)
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Url(Struct, frozen=True, kw_only=True):
    """The parts of a URL. ``host`` is a name in lower case, or an address as ``ipaddress`` writes it."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def is_remote(text: str) -> bool:
    """Whether it begins as a URL of a server does."""
    return text[:8].lower().startswith(("http://", "https://"))


def parse(text: str) -> Url | None:
    """None for whatever is not plainly a URL of a name or an address."""
    found = _URL.fullmatch(text) if len(text) <= _LONGEST else None
    host = None if found is None else _host(found["host"].lower())
    if found is None or host is None:
        return None
    scheme = found["scheme"].lower()
    port = int(found["port"]) if found["port"] else PORTS[scheme]
    return Url(scheme=scheme, host=host, port=port, path=found["path"] or "/", query=found["query"] or "")


def target_of(location: str, base: Url) -> Url | None:
    """Where a redirect leads: a whole URL, or a path on the same server. None for anything else."""
    if location.startswith("//"):
        return parse(f"{base.scheme}:{location}")
    return parse(base.origin + location if location.startswith("/") else location)


def checked(text: str, param: str) -> str:
    """The URL itself. Raises ``InvalidRequest`` naming ``param``, for what is wrong with its text alone."""
    if not is_remote(text):
        raise UnsupportedParameter("This is no `data:` URL, nor one of a web server.", param=param)
    if parse(text) is None:
        message = "The URL is not taken: it has a user, a fragment, unusual characters, or a host that can be read in two ways."
        raise InvalidRequest(message, param=param, code="invalid_value")
    return text


def not_enabled(param: str) -> UnsupportedParameter:
    message = "Fetching from other servers ('media.remote_urls') is not enabled here; send a base64 `data:` URL instead."
    return UnsupportedParameter(message, param=param)


def _host(text: str) -> str | None:
    """Numbers are an address only as ``ipaddress`` writes it: ``0x7f.1``, ``017700000001``, ``2130706433`` are some to others.

    A name has a dot within it and none at its end: one without is looked for in the search list of this machine's network.
    """
    if _NAME.fullmatch(text):
        return text
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    written = str(address) if address.version == 4 else f"[{address}]"
    return str(address) if written == text else None
