"""Reading the configuration: defaults, then the file, then the environment, then the command line; the last one wins.

Every mistake is a ``ConfigError`` of one line that names the setting and where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from openai_compat.auth import hash_key, is_key_hash, is_loopback
from openai_compat.config import Config, ConfigError, File, Model
from openai_compat.defaults import DEFAULT_MODELS
from openai_compat.keys.file import has_usable_key
from openai_compat.layers import Keys, Layer, Place, decode, environment_layer, file_layer, merge, mistake
from openai_compat.settings_admin import check_admin
from openai_compat.settings_edge import check_edge
from openai_compat.settings_relay import check_relay
from openai_compat.sizes import parse_size

CONFIG_VARIABLE = "OPENAI_COMPAT_CONFIG"
KEY_VARIABLE = "OPENAI_COMPAT_API_KEY"
_ENGINE_KEY = "OPENAI_COMPAT_ENGINE_KEY"  # what a gateway of this kind gives a server that it starts as its engine
_UPSTREAMS = "OPENAI_COMPAT_UPSTREAMS"
_LONGEST_NAME = 256  # characters; what the API takes as a model
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9.:\[\]_-]+")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9])?|[0-9a-f:]{2,45}")
_DEVICE = re.compile(r"auto|cpu|mps|cuda:\d{1,3}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_RESERVED = frozenset({CONFIG_VARIABLE, KEY_VARIABLE, _ENGINE_KEY, "OPENAI_COMPAT_CACHE_DIR"})
__all__ = ["ConfigError", "check_exposure", "find_file", "load"]


def find_file(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """``--config``, else ``$OPENAI_COMPAT_CONFIG``, else ``openai-compat/config.toml`` in the user's configuration folder.

    The current directory is not looked at: what a server loads must not depend on where it is started.
    """
    if explicit is not None:
        return explicit
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    folder = environ.get("XDG_CONFIG_HOME") or _under_home(".config", environ)
    usual = Path(folder, "openai-compat", "config.toml") if folder else None
    return usual if usual and usual.is_file() else None


def _under_home(name: str, environ: Mapping[str, str]) -> Path | None:
    """None where there is no home, as in containers whose user has no name."""
    try:
        return Path(environ.get("HOME") or Path.home(), name)
    except RuntimeError:
        return None


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any] | None = None) -> Config:
    """The configuration in force. ``flags`` are dotted settings; those that are None were not given. Raises ``ConfigError``."""
    found = find_file(path, environ)
    layers = [file_layer(found)] if found else []
    if not _offers_models(merge(layers)[0], environ):
        layers.insert(0, _default_models())
    layers.append(_port_layer(environ))
    layers.append(environment_layer(environ, Config, merge(layers)[0], reserved=_RESERVED | _key_variables(merge(layers)[0])))
    layers.append(_key_layer(environ, merge(layers)[0]))
    layers.append(_flag_layer(flags or {}))
    values, place = merge(layers)
    config = decode(Config, values, place)
    _check_values(config, place)
    return config


def check_exposure(config: Config) -> None:
    """Refuse to serve other machines, and every web page, without a key, configured or made; and anybody where it cannot be
    told which keys were made. Raises ``ConfigError``.
    """
    if has_usable_key(config) or config.auth.keys:
        return
    how = f"make one with 'openai-compat key create', set {KEY_VARIABLE} or auth.keys"
    if not is_loopback(config.server.host):
        raise ConfigError(
            f"server.host is {config.server.host}, which other machines can reach, and there is no API key: {how}, "
            "or listen on 127.0.0.1"
        )
    if "*" in config.server.cors_origins:
        raise ConfigError(
            "server.cors_origins has '*', so that every web page could use the models, and there is no API key: "
            f"{how}, or name origins"
        )


def _offers_models(written: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether the file names a model of its own, or the file or the environment an upstream that has some."""
    upstreams = any(text and name.startswith(_UPSTREAMS) for name, text in environ.items())
    return bool(written.get("models") or written.get("upstreams")) or upstreams


def _key_variables(written: Mapping[str, Any]) -> frozenset[str]:
    """Variables that hold upstreams' keys: they may be called like settings."""
    upstreams = written.get("upstreams")
    tables = upstreams.values() if isinstance(upstreams, dict) else ()
    return frozenset(str(table.get("api_key_env")) for table in tables if isinstance(table, dict))


def _default_models() -> Layer:
    return Layer({"models": msgspec.to_builtins(DEFAULT_MODELS)}, lambda _: "default models")


def _port_layer(environ: Mapping[str, str]) -> Layer:
    """``PORT``, which many hosts set."""
    text = environ.get("PORT", "")
    if text and not text.isdecimal():
        raise ConfigError(f"PORT: expected a number, got '{text}'")
    values = {"server": {"port": int(text)}} if text else {}
    return Layer(values, lambda _: "PORT")


def _key_layer(environ: Mapping[str, str], so_far: Mapping[str, Any]) -> Layer:
    """Plain keys from the environment join the configured ones; only their hashes go further."""
    keys = [key for name in (KEY_VARIABLE, _ENGINE_KEY) if (key := environ.get(name, "").strip())]
    if not keys:
        return Layer({}, lambda _: KEY_VARIABLE)
    section = so_far.get("auth")
    configured = section.get("keys", ()) if isinstance(section, dict) else ()
    known = configured if isinstance(configured, list | tuple) else ()
    return Layer({"auth": {"keys": [*known, *map(hash_key, keys)]}}, lambda _: KEY_VARIABLE)


def _flag_layer(flags: Mapping[str, Any]) -> Layer:
    values: dict[str, Any] = {}
    for name, value in flags.items():
        section, _, key = name.partition(".")
        if value is not None:
            values.setdefault(section, {})[key] = value
    return Layer(values, lambda path: "--" + path[-1].replace("_", "-"))


def _check_values(config: Config, place: Place) -> None:
    """What types cannot say."""
    for number, key in enumerate(config.auth.keys):
        if not is_key_hash(key):
            raise mistake(
                place,
                ("auth", "keys"),
                f"key {number + 1} is not of the form sha256:<64 hex digits>; make one with 'openai-compat key hash'",
            )
    for origin in config.server.cors_origins:
        _check_origin(config, origin, place)
    check_edge(config, place)
    for path, size, shared in _sizes(config):
        try:
            parse_size(size, 1 if shared else None)
        except ValueError as error:
            raise mistake(place, path, str(error)) from None
    for pattern in config.media.hosts:
        _check_host(pattern, place)
    for name, model in config.models.items():
        _check_name(("models", name), place)
        _check_model(("models", name), model, place)
    for upstream_name, upstream in config.upstreams.items():
        for name in upstream.models:
            _check_name(("upstreams", upstream_name, "models", name), place)
    for name in config.routes:
        _check_name(("routes", name), place)
    for name in config.aliases:
        _check_name(("aliases", name), place)
    check_admin(config, place)
    check_relay(config, place)


def _check_origin(config: Config, origin: str, place: Place) -> None:
    path = ("server", "cors_origins")
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise mistake(place, path, f"'{origin}' is not an origin: write it as browsers do, such as \"http://localhost:3000\"")


def _check_host(pattern: str, place: Place) -> None:
    """A ``*`` anywhere else than before a dot would let in names that others can register."""
    if not _HOST.fullmatch(pattern):
        message = f'\'{pattern}\' is not a host: write a name in lower case, such as "img.example.com", or "*.example.com"'
        raise mistake(place, ("media", "hosts"), message)


def _check_name(path: Keys, place: Place) -> None:
    """What no client could ask for, or no person could read in a log."""
    name = path[-1]
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise mistake(place, path, f"a model's name has 1 to {_LONGEST_NAME} characters, all of them visible")


def _check_model(path: tuple[str, str], model: Model, place: Place) -> None:
    for device in (model.device,) if isinstance(model.device, str) else model.device:
        if not _DEVICE.fullmatch(device):
            raise mistake(place, (*path, "device"), f"there is no device '{device}': auto, cpu, mps, cuda:0, cuda:1 …")
    if not model.device:
        raise mistake(place, (*path, "device"), "the list is empty; 'auto' finds a device")
    for file in model.files:
        _check_file((*path, "files"), file, place)
        if (file.source or file.parts) and not model.source.startswith("pypi:"):
            raise mistake(place, (*path, "files"), "only files of a pypi: source may have parts or a source of their own")


def _check_file(path: tuple[str, ...], file: File, place: Place) -> None:
    for name, sha256 in ((file.path or file.name, file.sha256), *((part.path, part.sha256) for part in file.parts)):
        if not _HASH.fullmatch(sha256):
            raise mistake(place, path, f"the sha256 of '{name}' is not 64 hexadecimal digits")
    if file.parts and (file.path or file.source or not file.name):
        raise mistake(place, path, f"'{file.path or file.name}' is made of parts: it has a name, and its parts have the paths")
    if not file.parts and not file.path:
        raise mistake(place, path, f"the file '{file.name}' has no path")


def _sizes(config: Config) -> list[tuple[tuple[str, ...], int | str, bool]]:
    """Every size with its path, and whether it may be a share of the machine."""
    memory = config.memory
    found: list[tuple[tuple[str, ...], int | str, bool]] = [
        (("server", "max_body"), config.server.max_body, False),
        (("server", "spool_quota"), config.server.spool_quota, False),
        (("storage", "quota"), config.storage.quota, False),
        (("responses", "quota_per_key"), config.responses.quota_per_key, False),
        (("cache", "size"), config.cache.size, False),
        (("media", "max_bytes"), config.media.max_bytes, False),
        (("memory", "host"), memory.host, True),
        (("memory", "device"), memory.device, True),
    ]
    found += [(("memory", "devices", name), size, True) for name, size in memory.devices.items()]
    found += [
        (("models", name, "memory"), model.memory, False) for name, model in config.models.items() if model.memory is not None
    ]
    return found
