"""The parts of the configuration that are about who may do what: keys, limits, the listener for operators, strangers' files."""

from __future__ import annotations

from openai_compat.config.base import Amount, Count, Section, Size, SomeSeconds


class Auth(Section, frozen=True, kw_only=True):
    """Keys that may use the server: ``sha256:<hex>`` of each. Those that are made while it runs are in its store."""

    keys: tuple[str, ...] = ()


class Admin(Section, frozen=True, kw_only=True):
    """Where operators are served: ``127.0.0.1:8001``, whose clients need a key with the scope ``admin``, or
    ``unix:/path/to/admin.sock``, which only this user can open. Nowhere while it is empty.
    """

    listen: str = ""


class Metering(Section, frozen=True, kw_only=True):
    """What each key may use that has no limits of its own; ``cost`` in the prices' currency.

    Counted as a request is admitted, and corrected when it is done.
    """

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    cost_per_day: Amount | None = None
    concurrent_requests: Count | None = None


class Media(Section, frozen=True, kw_only=True):
    """What is done with the URLs of pictures and sounds in requests to local models.

    ``hosts`` are names, or ``*.`` and a name for whatever is below it; any that is public where there are none.
    """

    remote_urls: bool = False
    hosts: tuple[str, ...] = ()
    max_bytes: Size = "20MiB"
    timeout: SomeSeconds = 10.0
