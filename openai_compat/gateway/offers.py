"""What the name of a model stands for, wherever the model is: on this machine, at an upstream, or behind a route.

A name is looked for among local ids, routes, the names that upstreams are configured with, aliases (of any of these), ids with
``:mode``, and patterns: upstreams in the order of the configuration, and of each its first pattern that fits. A pattern of an
upstream with ``discover`` takes only what that upstream lists. What a name stood for is remembered until a list changes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from openai_compat.config import Config, Route, RouteTarget, UpstreamModel
from openai_compat.errors import APIError, ModelNotFound, Unavailable
from openai_compat.gateway.listing import MAX_NAME, Listed
from openai_compat.gateway.order import Choice, Destination, LocalTarget, Target, UpstreamTarget
from openai_compat.grants import ANYBODY, Grant
from openai_compat.patterns import STAR, filled, star_of

MAX_ALIASES = 8
REMEMBERED = 4096
NEAR_NAMES = 3
NEAR_CUTOFF = 0.5
NEAR_AMONG = 200  # names are compared letter by letter, and clients make them up
SOON = 1.0  # seconds; by then an upstream has usually said what it has


class Discovered(Protocol):
    """What upstreams list."""

    @property
    def version(self) -> int:
        """Another number whenever anything below has changed."""

    def listed(self, upstream: str) -> Mapping[str, Listed] | None:
        """By the names that the upstream uses; None while it never answered."""

    def awaited(self, upstream: str) -> bool:
        """Whether its first answer is still to come."""


class LocalNames(Protocol):
    """The part of the catalog that knows ids and modes."""

    def lookup(self, name: str) -> tuple[str, str | None] | None: ...


class _Pattern(Struct, frozen=True):
    """A name with a ``*`` that an upstream is configured with, and what the upstream calls what it stands for."""

    upstream: str
    key: str
    model: UpstreamModel
    discovers: bool

    @property
    def remote(self) -> str:
        return self.model.name or self.key

    def target(self, name: str, star: str) -> UpstreamTarget:
        label = name if self.discovers else self.key
        return UpstreamTarget(upstream=self.upstream, model=self.model, remote_name=filled(self.remote, star), label=label)


class Offers:
    """Every name that a client may use, and what it stands for."""

    def __init__(self, config: Config, catalog: LocalNames, discovery: Discovered) -> None:
        self._models = config.models
        self._routes = config.routes
        self._aliases = config.aliases
        self._upstreams = config.upstreams
        self._catalog = catalog
        self._discovery = discovery
        self._explicit = {target.label: target for target in reversed(list(_explicit(config)))}
        self._patterns = tuple(_patterns(config))
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._look)

    def find(self, name: str, grant: Grant = ANYBODY) -> Destination:
        """What ``name`` stands for, if ``grant`` may use it: by this very name, or by that of the model whose mode it is.

        Raises ``ModelNotFound``; ``Unavailable`` where an upstream that may have the model has not said yet. A model that may
        not be used is refused as one that does not exist, and hints name none either.
        """
        if not grant.models:
            return self._remembered(name, self._discovery.version)
        if grant.may_use(name):
            try:
                return self._remembered(name, self._discovery.version)
            except ModelNotFound:
                raise self._unknown(name, self._unaliased(name), grant) from None
        if grant.may_use(name.rpartition(":")[0]) and (found := self._as_mode(name)) is not None:
            return found
        raise self._unknown(name, name, grant)

    def names(self) -> tuple[str, ...]:
        """Every name that is known, in the order of the configuration. Patterns are none."""
        return tuple(dict.fromkeys(chain(self._models, self._of_upstreams(), self._routes, self._aliases)))

    def patterns(self) -> tuple[str, ...]:
        """Names with a ``*``, in their order."""
        return tuple(dict.fromkeys(pattern.key for pattern in self._patterns))

    def listed(self, target: UpstreamTarget) -> Listed | None:
        """What the upstream said of the model, if it was asked and has it.

        A model with modes may be named with one after it; which ones there are is the upstream's to say.
        """
        known = self._discovery.listed(target.upstream) or {}
        if found := known.get(target.remote_name):
            return found
        base, _, mode = target.remote_name.rpartition(":")
        found = known.get(base) if mode else None
        return found if found is not None and found.modes else None

    def able(self, verbs: tuple[str, ...], grant: Grant = ANYBODY) -> str | None:
        """The first model of an upstream that is known to do one of ``verbs``, and that ``grant`` may use."""
        for name in filter(grant.may_use, self._of_upstreams()):
            with suppress(APIError):
                target = self.find(name).only
                if isinstance(target, UpstreamTarget) and set(verbs) & set(self.capabilities(target)):
                    return name
        return None

    def capabilities(self, target: UpstreamTarget) -> tuple[str, ...]:
        """Verbs, where they are known. What the configuration says goes before what the upstream says of itself."""
        listed = self.listed(target)
        return target.model.capabilities or (listed.capabilities if listed else ())

    # ------------------------------------------------------------ one name

    def _look(self, name: str, _version: int) -> Destination:
        if _impossible(name):
            raise ModelNotFound(name[:MAX_NAME])
        meant = self._unaliased(name)
        if meant in self._routes and meant not in self._models:
            return self._routed(name, meant, self._routes[meant])
        target = self._target(meant)
        if target is None:
            raise self._unknown(name, meant)
        return Destination(public_name=name, base=_base(name, meant, target), choices=(Choice(target=target),))

    def _as_mode(self, name: str) -> Destination | None:
        """A mode of the model whose name comes before the ``:``, also where the whole is another model's name."""
        if _impossible(name):
            return None
        base, _, mode = name.rpartition(":")
        local = self._catalog.lookup(base)
        if local is not None and (local[1] is None or base in self._aliases):
            target: Target | None = self._local(local[0], mode)
        else:
            target = self._patterned(name)
        if target is None or _base(name, name, target) != base:
            return None
        return Destination(public_name=name, base=base, choices=(Choice(target=target),))

    def _unaliased(self, name: str) -> str:
        for _ in range(MAX_ALIASES):
            if name in self._models or name in self._routes or name in self._explicit or name not in self._aliases:
                break
            name = self._aliases[name]
        return name

    def _routed(self, name: str, route_name: str, route: Route) -> Destination:
        """The targets that are known; one whose upstream has not listed it yet is left out until it has."""
        wanted = [target if isinstance(target, RouteTarget) else RouteTarget(model=target) for target in route.targets]
        found = [(self._target(self._unaliased(target.model)), target.weight) for target in wanted]
        choices = tuple(Choice(target=target, weight=weight) for target, weight in found if target is not None)
        if not choices:
            raise Unavailable(f"The models behind '{name}' are not known yet.", retry_after=SOON)
        larger = self._target(self._unaliased(route.larger_context)) if route.larger_context else None
        return Destination(public_name=name, choices=choices, route=route_name, larger=larger)

    def _target(self, name: str) -> Target | None:
        if name in self._models:
            return self._local(name, None)
        if name in self._explicit:
            return self._explicit[name]
        if found := self._catalog.lookup(name):
            return self._local(*found)
        return self._patterned(name)

    def _local(self, model_id: str, mode: str | None) -> LocalTarget:
        return LocalTarget(model_id=model_id, mode=mode, price=self._models[model_id].price)

    def _patterned(self, name: str) -> UpstreamTarget | None:
        """None also where an upstream comes first that has not said yet whether it has the model."""
        for pattern in self._patterns:
            star = star_of(pattern.key, name)
            if star is None:
                continue
            if pattern.discovers and self._discovery.awaited(pattern.upstream):
                return None
            target = pattern.target(name, star)
            if not pattern.discovers:
                return target
            if self.listed(target) is not None:
                return target if self._is_listed(target) else replace(target, label=name.rpartition(":")[0])
        return None

    def _is_listed(self, target: UpstreamTarget) -> bool:
        return target.remote_name in (self._discovery.listed(target.upstream) or {})

    def _unknown(self, name: str, meant: str, grant: Grant = ANYBODY) -> APIError:
        if _impossible(name):
            return ModelNotFound(name[:MAX_NAME])
        fitting = {pattern.upstream for pattern in self._patterns if pattern.discovers and star_of(pattern.key, meant)}
        if any(self._discovery.listed(upstream) is None for upstream in fitting):
            return Unavailable(f"It is not known yet whether there is a model '{name}'.", retry_after=SOON)
        near_first = chain(self._models, self._routes, self._aliases, self._of_upstreams())
        by_lower = {known.lower(): known for known in filter(grant.may_use, islice(near_first, NEAR_AMONG))}
        near = difflib.get_close_matches(name.lower(), by_lower, n=NEAR_NAMES, cutoff=NEAR_CUTOFF)
        return ModelNotFound(name, tuple(by_lower[candidate] for candidate in near))

    # ------------------------------------------------------------ all names

    def _of_upstreams(self) -> Iterator[str]:
        """Of each upstream what it is configured with, then what it lists, under the names that clients use."""
        for name, upstream in self._upstreams.items():
            yield from (key for key in upstream.models if STAR not in key)
            patterns = [pattern for pattern in self._patterns if pattern.upstream == name and pattern.discovers]
            for remote in self._discovery.listed(name) or {}:
                yield from _public(patterns, remote)


def _impossible(name: str) -> bool:
    return len(name) > MAX_NAME or not name.isprintable()


def _base(name: str, meant: str, target: Target) -> str:
    """``name`` without its mode. An alias may stand for a mode, and has none itself."""
    base, _, mode = name.rpartition(":")
    if isinstance(target, LocalTarget):
        return base if meant == name and mode and mode == target.mode else ""
    return base if meant == name and target.label == base else ""


def _public(patterns: list[_Pattern], remote: str) -> Iterator[str]:
    for pattern in patterns:
        if STAR in pattern.remote and (star := star_of(pattern.remote, remote)):
            yield filled(pattern.key, star)


def _explicit(config: Config) -> Iterator[UpstreamTarget]:
    for name, upstream in config.upstreams.items():
        for key, model in upstream.models.items():
            if STAR not in key:
                yield UpstreamTarget(upstream=name, model=model, remote_name=model.name or key, label=key)


def _patterns(config: Config) -> Iterator[_Pattern]:
    for name, upstream in config.upstreams.items():
        for key, model in (upstream.models or {STAR: UpstreamModel()}).items():
            if STAR in key:
                yield _Pattern(name, key, model, upstream.discover)
