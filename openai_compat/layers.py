"""Settings from several places, laid over one another and decoded into Structs; a message says where each was written."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from openai_compat.config import ConfigError

T = TypeVar("T", bound=Struct)
Keys = tuple[str, ...]
Place = Callable[[Keys], str]
PREFIX = "OPENAI_COMPAT_"
_SECRETIVE = "upstreams"  # in this section a text may be a key, or an address with one in it
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Layer(NamedTuple):
    """Nested settings, and a function that says where one of them was written."""

    values: dict[str, Any]
    place: Place


def dotted(path: Keys) -> str:
    """``models."a.b".source``, as TOML would write it."""
    return ".".join(key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in path)


def mistake(place: Place, path: Keys, text: str) -> ConfigError:
    """The one line that names a setting, and where it was written."""
    return ConfigError(f"{place(path)}: {dotted(path)}: {text}")


# ---------------------------------------------------------------- layers


def merge(layers: Sequence[Layer]) -> tuple[dict[str, Any], Place]:
    """Lay later layers over earlier ones, table by table."""
    merged: dict[str, Any] = {}
    for layer in layers:
        _overlay(merged, layer.values)

    def place(path: Keys) -> str:
        owners = (layer for layer in reversed(layers) if _holds(layer.values, path))
        owner = next(owners, None)
        return owner.place(path) if owner else place(path[:-1]) if path else "configuration"

    return merged, place


def _overlay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict):
            if not isinstance(below.get(key), dict):
                below[key] = {}
            _overlay(below[key], value)
        else:
            below[key] = value


def _holds(values: Any, path: Keys) -> bool:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return bool(path)


def file_layer(path: Path) -> Layer:
    """A TOML file. Raises ``ConfigError`` if it cannot be read."""
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Layer(values, lambda setting: _line_of(path, text, setting))


def _line_of(path: Path, text: str, setting: Keys) -> str:
    """``config.toml, line 3``; without a line where the setting is written in a way that is not recognised."""
    table: Keys = ()
    last = None
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.fullmatch(r"\s*\[+\s*(.*?)\s*\]+\s*(#.*)?", line):
            table = _keys(match[1])
            here = table
        elif match := re.match(r"\s*([^=#\[]+?)\s*=", line):
            here = table + _keys(match[1])
        else:
            continue
        if here == setting:
            return f"{path}, line {number}"
        if here == setting[: len(here)]:
            last = number
    return f"{path}, line {last}" if last else str(path)


def _keys(text: str) -> Keys:
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'|([A-Za-z0-9_-]+)', text)
    return tuple(next(filter(None, part), "") for part in parts)


def environment_layer(
    environ: Mapping[str, str], root: type[Struct], so_far: Mapping[str, Any], reserved: frozenset[str]
) -> Layer:
    """``OPENAI_COMPAT_SERVER__PORT=9000`` and its like; an empty variable is one that is not set.

    A model is named with everything but letters and digits as ``_``: ``OPENAI_COMPAT_MODELS__MY_MODEL__PRELOAD=true``.
    Lists may be written with commas, tables as JSON. A variable with something that a table must have begins the table:
    ``OPENAI_COMPAT_UPSTREAMS__LAB__BASE_URL``.
    """
    so_far = _begun(environ, root, so_far)
    values: dict[str, Any] = {}
    names: dict[Keys, str] = {}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in reserved or not text:
            continue
        path, kind = _resolve(name, root, so_far)
        section = values
        for key in path[:-1]:
            section = section.setdefault(key, {})
        section[path[-1]] = _from_text(text, kind, name)
        names[path] = name
    return Layer(values, lambda path: _nearest(names, path))


def _begun(environ: Mapping[str, str], root: type[Struct], so_far: Mapping[str, Any]) -> Mapping[str, Any]:
    """``so_far`` with the names of the tables that variables begin."""
    begun = dict(so_far)
    kinds = {field.name: _struct_in(field.type, dict) for field in msgspec.structs.fields(root)}
    for name in sorted(environ):
        section, _, rest = name.removeprefix(PREFIX).lower().partition("__")
        key, _, setting = rest.partition("__")
        inner = kinds.get(section) if name.startswith(PREFIX) and environ[name] else None
        if inner and setting in {field.name for field in msgspec.structs.fields(inner) if field.required}:
            tables = begun.get(section)
            tables = tables if isinstance(tables, dict) else {}
            begun[section] = {**tables, _same_name(key.upper(), tables): None}
    return begun


def _nearest(names: Mapping[Keys, str], path: Keys) -> str:
    """The variable that set ``path`` or a table around it; for a table, the first that set something in it."""
    around = (names[path[:end]] for end in range(len(path), 0, -1) if path[:end] in names)
    inside = (name for other, name in names.items() if other[: len(path)] == path)
    return next(around, None) or next(inside, PREFIX)


def _resolve(name: str, root: type[Struct], so_far: Mapping[str, Any]) -> tuple[Keys, Any]:
    """The setting that a variable means, and its type."""
    path: Keys = ()
    kind: Any = root
    for part in name.removeprefix(PREFIX).split("__"):
        if _is_struct(kind):
            fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
            key, known = part.lower(), fields
        elif (inner := _struct_in(kind, dict)) and len(path) == 1:
            fields = dict.fromkeys(so_far.get(path[0], {}), inner)
            key, known = _same_name(part, fields), fields
        else:
            raise ConfigError(f"{name}: {dotted(path)} has no parts; a table is written as JSON")
        if key not in known:
            how = _beginning(path, part, kind) or _near(key, known)
            raise ConfigError(f"{name}: unknown setting '{dotted((*path, key))}'{how}")
        path, kind = (*path, key), known[key]
    return path, kind


def _beginning(path: Keys, part: str, kind: Any) -> str:
    """How a table of this name is begun, if it is one that variables can begin."""
    inner = _struct_in(kind, dict)
    required = [field.name for field in msgspec.structs.fields(inner) if field.required] if inner else []
    return f"; {PREFIX}{path[0].upper()}__{part}__{required[0].upper()} begins it" if required else ""


def _same_name(part: str, known: Mapping[str, Any]) -> str:
    return next((name for name in known if re.sub(r"[^A-Z0-9]", "_", name.upper()) == part.upper()), part.lower())


def _from_text(text: str, kind: Any, name: str) -> Any:
    if text[0] in "[{" and kind is not str:  # an address may begin so
        try:
            return json.loads(text)
        except ValueError:
            raise ConfigError(f"{name}: is not valid JSON") from None
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",")]
    return _convert(text, kind, name, strict=False, secret=name.startswith(PREFIX + _SECRETIVE.upper()))


# ---------------------------------------------------------------- decoding


def decode(kind: type[T], values: Mapping[str, Any], place: Place, path: Keys = ()) -> T:
    """``values`` as a Struct, each part named exactly if it is wrong. Raises ``ConfigError``."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key in values:
        if key not in fields:
            here = (*path, key)
            raise ConfigError(f"{place(here)}: unknown setting '{dotted(here)}'{_near(key, fields)}")
    for field in fields.values():
        if field.required and field.name not in values:
            raise ConfigError(f"{place(path)}: {dotted((*path, field.name))} is missing")
    return kind(**{key: _value(fields[key].type, value, place, (*path, key)) for key, value in values.items()})


def _value(kind: Any, value: Any, place: Place, path: Keys) -> Any:
    if _is_struct(kind):
        return value if isinstance(value, kind) else decode(kind, _table(value, place, path), place, path)
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return {key: _value(inner, item, place, (*path, key)) for key, item in _table(value, place, path).items()}
    if (inner := _struct_in(kind, tuple)) and isinstance(value, list):
        return tuple(_value(inner, item, place, path) for item in value)
    return _convert(value, kind, f"{place(path)}: {dotted(path)}", secret=path[:1] == (_SECRETIVE,))


def _table(value: Any, place: Place, path: Keys) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place(path)}: {dotted(path)}: expected a table, got {_shown(value, path[:1] == (_SECRETIVE,))}")
    return value


def _convert(value: Any, kind: Any, where: str, *, strict: bool = True, secret: bool = False) -> Any:
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_expected(kind, str(error))}, got {_shown(value, secret)}") from None


def _expected(kind: Any, message: str) -> str:
    if get_origin(kind) is Literal:
        return f"expected one of {', '.join(map(str, get_args(kind)))}"
    text = message.partition(", got")[0].partition(" - at")[0].replace("`", "")
    return (text[:1].lower() + text[1:]).replace("object", "a table").replace("array", "a list")


def _shown(value: Any, secret: bool) -> str:
    """Of a text or table that may hold a key only what it is."""
    if secret and isinstance(value, str | dict | list):
        return "a text" if isinstance(value, str) else "a table" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _struct_in(kind: Any, container: type) -> type[Struct] | None:
    """The Struct that a ``dict[str, X]`` or ``tuple[X, ...]`` holds, if it is one."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is not container:
        return None
    return next((inner for inner in get_args(kind) if _is_struct(inner)), None)


def _near(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known here: {', '.join(known)}"
