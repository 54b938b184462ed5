"""What types cannot say of upstreams, routes, engines and the names of models: every mistake with the place it was made at.

No message repeats a value that may hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from urllib.parse import SplitResult, urlsplit

from handlers.types import VERBS
from openai_compat.config import Config, Engine, Model, Price, Route, RouteTarget, Upstream, UpstreamModel
from openai_compat.layers import Keys, Place, mistake
from openai_compat.patterns import STAR, star_of

_LONGEST_CHAIN = 7  # aliases that stand for one another
_SHOWN_NAMES = 20
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
_URL = re.compile(r"[\x21-\x7e]+")
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")
_PLACEHOLDER = re.compile(r"(?<!\{)\{([a-z][a-z0-9_]*)\}(?!\})")
_PLACEHOLDERS = ("port", "host", "model", "key", "key_sha256")
_AUTHORIZATION = "authorization"
# What the gateway writes itself, for the body that it sends and the connection that it sends it on.
_OURS = frozenset(
    {
        "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_STEERING = frozenset({"model", "stream"})
_ENDPOINT = re.compile(r"/(chat/)?completions/?$|/embeddings/?$")


def check_relay(config: Config, place: Place) -> None:
    """Raises ``ConfigError``."""
    for name, model in config.models.items():
        _check_source(("models", name), model, place)
    for name, upstream in config.upstreams.items():
        _check_upstream(("upstreams", name), upstream, place)
    _check_collisions(config, place)
    for name, route in config.routes.items():
        _check_route(config, name, route, place)
    for alias, target in config.aliases.items():
        _check_alias(config, alias, target, place)


def doubts(config: Config) -> Iterator[str]:
    """What is no mistake, and hardly what was meant."""
    prices = [model.price for model in config.models.values()]
    prices += [model.price for upstream in config.upstreams.values() for model in upstream.models.values()]
    if config.metering.cost_per_day is not None and all(price == Price() for price in prices):
        yield "metering.cost_per_day limits nothing, since no model has a price"


# ---------------------------------------------------------------- models and engines


def _check_source(path: Keys, model: Model, place: Place) -> None:
    """Where it comes from. A handler that is named may need no files."""
    if model.command:
        if model.source or model.files:
            raise mistake(place, (*path, "command"), "a model has either a source or a command")
        for key, given in (("kind", model.kind != "auto"), ("options", bool(model.options))):
            if given:
                raise mistake(place, (*path, key), "it is for models of this server, and this one is a command's")
        _check_command(path, model, place)
        _check_engine((*path, "engine"), model.engine, place)
    elif model.engine != Engine():
        raise mistake(place, (*path, "engine"), "it is about a model's command, and this one has none")
    elif not model.source and model.kind == "auto":
        raise mistake(place, path, "it needs a source or a command")


def _check_command(path: Keys, model: Model, place: Place) -> None:
    texts = (*model.command, *model.environment.values())
    for text in texts:
        if "\0" in text:
            raise mistake(place, path, "a command cannot hold a zero character")
        for name in _PLACEHOLDER.findall(text):
            if name not in _PLACEHOLDERS:
                known = ", ".join(f"{{{known}}}" for known in _PLACEHOLDERS)
                raise mistake(place, (*path, "command"), f"{{{name}}} stands for nothing; known here: {known}")
    if not model.command[0]:
        raise mistake(place, (*path, "command"), "the program has no name")
    if not any("{port}" in text for text in texts):
        raise mistake(place, (*path, "command"), "it must be told its port: write {port} where the program takes it")


def _check_engine(path: Keys, engine: Engine, place: Place) -> None:
    for key, value in (("health", engine.health), ("base_path", engine.base_path)):
        if not re.fullmatch(r"/[\x21-\x7e]*", value) and (value or key == "health"):
            raise mistake(place, (*path, key), "a path begins with a slash and has no spaces")
    _check_capabilities(path, engine.capabilities, place)


def _check_capabilities(path: Keys, capabilities: tuple[str, ...], place: Place) -> None:
    for verb in capabilities:
        if verb not in VERBS:
            known = ", ".join(VERBS)
            raise mistake(place, (*path, "capabilities"), f"'{verb}' is no capability; known here: {known}")


# ---------------------------------------------------------------- upstreams


def _check_upstream(path: Keys, upstream: Upstream, place: Place) -> None:
    if not _ID.fullmatch(path[1]):
        raise mistake(place, path, "an upstream's name has 1 to 64 letters, digits, dots, dashes and underscores")
    _check_base_url((*path, "base_url"), upstream, place)
    if upstream.proxy:
        _address((*path, "proxy"), upstream.proxy, place, like="http://host:port")
    _check_key(path, upstream, place)
    _check_headers(path, upstream, place)
    if upstream.breaker.pause_max < upstream.breaker.pause:
        raise mistake(place, (*path, "breaker", "pause_max"), "it is shorter than pause")
    for name, model in upstream.models.items():
        _check_upstream_model((*path, "models", name), model, place)


def _check_base_url(path: Keys, upstream: Upstream, place: Place) -> None:
    for found in _BRACES.findall(upstream.base_url):
        if found != "{model}":
            raise mistake(place, path, "of braces it may have {model} only")
    parts = _address(path, upstream.base_url.replace("{model}", "model"), place)
    if "{model}" in upstream.base_url.partition("://")[2].partition("/")[0]:
        raise mistake(place, path, "{model} may stand in its path only")
    if parts.username is not None or parts.password is not None:
        raise mistake(place, path, "keys do not belong into it; name a variable with api_key_env or a file with api_key_file")
    if parts.query or parts.fragment or upstream.base_url.endswith(("?", "#")):
        raise mistake(place, path, "it ends with its path; parameters belong into the table 'query'")
    if found := _ENDPOINT.search(parts.path):
        raise mistake(place, path, f"it ends before {found[0]}, which is added for each request")
    if upstream.discover and "{model}" in upstream.base_url:
        raise mistake(place, (*path[:-1], "discover"), "an address with {model} in it has no list of models")


def _address(path: Keys, url: str, place: Place, *, like: str = "https://api.example.com/v1") -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not _URL.fullmatch(url) or "\\" in url:
        raise mistake(place, path, f"it is not an address such as {like}")
    return parts


def _check_key(path: Keys, upstream: Upstream, place: Place) -> None:
    if upstream.api_key_env and upstream.api_key_file:
        raise mistake(place, (*path, "api_key_file"), "the key comes from api_key_env already: leave one of them out")
    if upstream.api_key_env and not _VARIABLE.fullmatch(upstream.api_key_env):
        raise mistake(place, (*path, "api_key_env"), "it is the name of a variable that holds the key, not the key itself")
    if not _TOKEN.fullmatch(upstream.api_key_header) or upstream.api_key_header.lower() in _OURS:
        raise mistake(place, (*path, "api_key_header"), "no key can be sent in a header of this name")


def _check_headers(path: Keys, upstream: Upstream, place: Place) -> None:
    keyed = bool(upstream.api_key_env or upstream.api_key_file)
    seen: set[str] = set()
    for name, value in upstream.headers.items():
        here, lower = (*path, "headers", name), name.lower()
        if not _TOKEN.fullmatch(name) or lower in _OURS:
            raise mistake(place, here, "a header of this name cannot be set")
        if lower in seen:
            raise mistake(place, here, "it is there twice; upper and lower case are the same")
        if keyed and lower in (_AUTHORIZATION, upstream.api_key_header.lower()):
            raise mistake(place, here, "the key is sent already: leave out the header, or api_key_env and api_key_file")
        if not _HEADER_VALUE.fullmatch(value):
            raise mistake(place, here, "its value is not one line of plain characters")
        seen.add(lower)
    for key, value in (("organization", upstream.organization), ("project", upstream.project)):
        if value and not _HEADER_VALUE.fullmatch(value):
            raise mistake(place, (*path, key), "it is not one line of plain characters")
    if "" in upstream.query:
        raise mistake(place, (*path, "query"), "a parameter has no name")


def _check_upstream_model(path: Keys, model: UpstreamModel, place: Place) -> None:
    key = path[-1]
    if key.count(STAR) > 1:
        raise mistake(place, path, "a pattern has one * only")
    if model.name.count(STAR) > key.count(STAR):
        raise mistake(place, (*path, "name"), "its * stands for nothing: the model's own name has none, or one only")
    if model.name and (len(model.name) > 256 or not model.name.strip() or not model.name.isprintable()):
        raise mistake(place, (*path, "name"), "a model's name has 1 to 256 characters, all of them visible")
    _check_capabilities(path, model.capabilities, place)
    for table, names in (("drop", model.drop), ("rename", (*model.rename, *model.rename.values())), ("default", model.default)):
        for name in names:
            if name in _STEERING or not name:
                raise mistake(place, (*path, table), f"the field '{name}' is not to be changed")
    if len(set(model.rename.values())) < len(model.rename):
        raise mistake(place, (*path, "rename"), "two fields get the same name")


# ---------------------------------------------------------------- names


def _explicit(upstream: Upstream) -> Iterator[str]:
    return (name for name in upstream.models if STAR not in name)


def _check_collisions(config: Config, place: Place) -> None:
    """One name, one meaning: what a client gets must not depend on the order of tables."""
    owners = dict.fromkeys(config.models, "a model")
    for upstream_name, upstream in config.upstreams.items():
        for name in _explicit(upstream):
            path = ("upstreams", upstream_name, "models", name)
            _take(owners, name, f"the upstream '{upstream_name}'", path, place)
    for name in config.routes:
        _take(owners, name, "a route", ("routes", name), place)
    for name in config.aliases:
        _take(owners, name, "an alias", ("aliases", name), place)


def _take(owners: dict[str, str], name: str, owner: str, path: Keys, place: Place) -> None:
    if name in owners:
        there = owners[name]
        kept = "a model has this id already" if there == "a model" else f"{there} has this name already"
        more = "" if owner == "an alias" else "; a route may have both behind one name" if "upstream" in owner else ""
        raise mistake(place, path, kept + more)
    owners[name] = owner


def _known(config: Config) -> Mapping[str, None]:
    """Every model that is named, in the order of the configuration; patterns too."""
    names = [*config.models]
    for upstream in config.upstreams.values():
        names += upstream.models or (STAR,)
    return dict.fromkeys(names)


def _is_model(config: Config, name: str) -> bool:
    """Whether it is, or may be, one target: not a route, and not an alias of one."""
    name = _unaliased(config, name) or ""
    if name in config.models or name.rpartition(":")[0] in config.models:
        return True
    return any(star_of(pattern, name) is not None for pattern in _known(config) if pattern not in config.models)


def _unaliased(config: Config, name: str) -> str | None:
    """What a chain of aliases leads to; None where it has no end."""
    for _ in range(_LONGEST_CHAIN):
        if name not in config.aliases:
            return name
        name = config.aliases[name]
    return None


def _check_alias(config: Config, alias: str, target: str, place: Place) -> None:
    """What leads nowhere would be found out by a client."""
    path = ("aliases", alias)
    if STAR in alias:
        raise mistake(place, path, "an alias is one name, without a *")
    end = _unaliased(config, target)
    if end is None:
        raise mistake(place, path, "it leads from alias to alias and never to a model")
    if end not in config.routes and not _is_model(config, end):
        raise mistake(place, path, f"there is no model '{end}'. Models: {_some((*_known(config), *config.routes))}")


def _check_route(config: Config, name: str, route: Route, place: Place) -> None:
    path = ("routes", name)
    if STAR in name:
        raise mistake(place, path, "a route is one name, without a *")
    targets = [target.model if isinstance(target, RouteTarget) else target for target in route.targets]
    if not targets:
        raise mistake(place, (*path, "targets"), "a route needs a target")
    for target in targets:
        _check_target(config, target, (*path, "targets"), place)
    if len(set(targets)) < len(targets):
        raise mistake(place, (*path, "targets"), "a target is there twice; give it a larger weight")
    if route.larger_context:
        _check_target(config, route.larger_context, (*path, "larger_context"), place)
    if route.hedge_after is not None and len(targets) == 1:
        raise mistake(place, (*path, "hedge_after"), "there is no second target to be asked")


def _check_target(config: Config, target: str, path: Keys, place: Place) -> None:
    if _unaliased(config, target) in config.routes:
        raise mistake(place, path, f"'{target}' is a route, and routes lead to models only")
    if STAR in target:
        raise mistake(place, path, f"'{target}' stands for many; a target is one model")
    if not _is_model(config, target):
        raise mistake(place, path, f"there is no model '{target}'. Models: {_some(_known(config))}")


def _some(names: Mapping[str, None] | tuple[str, ...]) -> str:
    more = ", …" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(islice(names, _SHOWN_NAMES)) + more
