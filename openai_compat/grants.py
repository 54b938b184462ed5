"""What the holder of one key may do. ``auth`` finds it for each request and leaves it in ``scope["state"]["grant"]``."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, Protocol, get_args

from msgspec import Struct

from openai_compat.config.base import Amount, Section
from openai_compat.patterns import STAR, star_of

Scope = Literal[
    "chat", "embeddings", "images", "audio", "videos", "vision", "models", "usage", "events", "load", "metrics", "admin"
]
SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
OPERATORS: frozenset[Scope] = frozenset({"events", "load", "metrics", "admin"})
"""What a key may do only where it was said when it was made: these show what others do, or change it."""
CLIENTS = SCOPES - OPERATORS


class KeyLimits(Section, frozen=True, kw_only=True):
    """A key's own limits, in place of the server's (``[metering]``) where they are not None; 0 is no limit.

    ``budget`` is all that the key may ever cost, in the prices' currency.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    cost_per_day: Amount | None = None
    concurrent_requests: int | None = None
    budget: Amount | None = None


class Grant(Struct, frozen=True, kw_only=True, dict=True):
    """``models`` are names as clients write them, each with one ``*`` at most; all models where there are none. ``key_id``
    reveals nothing of the key, and is empty on a server without keys. ``expires`` is in Unix seconds. ``spent`` is what the key
    had cost when this was read, in 10¹²th parts of the currency: a new key may go on where another one ends.
    """

    key_id: str = ""
    name: str = ""
    scopes: frozenset[Scope] = CLIENTS
    models: tuple[str, ...] = ()
    limits: KeyLimits = KeyLimits()
    expires: int | None = None
    spent: int = 0

    @cached_property
    def unlimited(self) -> bool:
        """Whether it has no limits of its own."""
        return self.limits == KeyLimits()

    def may_use(self, name: str) -> bool:
        """Whether ``models`` has this very name. A mode's name (``model:mode``) is for ``Offers.find``, which knows modes."""
        return not self.models or name in self._names or any(star_of(pattern, name) is not None for pattern in self._patterns)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(name for name in self.models if STAR not in name)

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(name for name in self.models if STAR in name)


ANYBODY = Grant(scopes=SCOPES - {"admin"})
"""Who uses a server without keys, and who has a key of its configuration (with the key's own ``key_id``)."""
NOBODY = Grant(scopes=frozenset())
"""Who asks for a path that needs no key on a server that has keys."""


class Grants(Protocol):
    """All that is known of keys, at this moment."""

    @property
    def exist(self) -> bool:
        """Whether there is any key at all; else this machine's clients need none."""

    def find(self, digest: bytes) -> Grant | None:
        """The grant of the key whose SHA-256 is ``digest``; None where it is unknown, revoked or expired. Constant time."""
