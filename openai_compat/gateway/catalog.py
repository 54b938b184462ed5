"""Which models there are, what a request's name means, and what the files of each say.

A model's files are scanned before their path is given to anybody. The result holds while no file of it changes: a look at
names, sizes and times. ``spec``, ``analysis`` and ``models`` read the disk: milliseconds once known, up to a second before.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from msgspec import Struct

from handlers import registry
from handlers.types import Analysis, ModelSpec, Verb
from openai_compat.config import Config, Model
from openai_compat.errors import ModelNotFound, ModelUnavailable
from openai_compat.gateway.engines.facts import KIND, analyze_engine, has_program
from openai_compat.gateway.facts import facts_of
from openai_compat.gateway.scan import scan
from openai_compat.gateway.scan.walk import MAX_FILES
from openai_compat.gateway.sources import ModelStore, cache_root
from openai_compat.gateway.sources.types import BundledSource, HubSource, LocalSource, PullFailed, parse_source

logger = logging.getLogger(__name__)

NEAR_NAMES = 3
NEAR_CUTOFF = 0.5
MAX_NAME = 256
MAX_ALIASES = 8

Signature = tuple[tuple[str, int, int, int], ...]


class Target(Struct, frozen=True, kw_only=True):
    """What a request's ``model`` means; ``public_name`` is what the client wrote and reads again."""

    model_id: str
    mode: str | None
    public_name: str


class CatalogEntry(Struct, frozen=True, kw_only=True):
    """A model as it is listed. ``created`` is the Unix time at which its files were placed; 0 where they are not there."""

    id: str
    created: int
    owned_by: str
    available: bool
    capabilities: tuple[Verb, ...] = ()
    modes: tuple[str, ...] = ()
    context_length: int | None = None


class _Known(Struct, frozen=True, kw_only=True):
    """What a look at the files found: a spec with its analysis, or why there is none."""

    signature: Signature
    spec: ModelSpec
    analysis: Analysis | None = None
    refusal: str = ""


class Catalog:
    """The configured models by id, alias and mode."""

    def __init__(self, config: Config, before: Catalog | None = None) -> None:
        """``before`` is another configuration's: what it knows of the files of the same models need not be found out again."""
        self.store = ModelStore(cache_root(config.server.cache_dir))
        self._models = config.models
        self._aliases = config.aliases
        self._known: dict[str, _Known] = {} if before is None else before._known_of(config)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._models)

    def model(self, model_id: str) -> Model:
        """The configuration of a model, by its id. Raises ``ModelNotFound``."""
        if model_id not in self._models:
            raise ModelNotFound(model_id[:MAX_NAME], self._near(model_id))
        return self._models[model_id]

    def resolve(self, name: str) -> Target:
        """An id, an alias, or either with ``:mode`` after it; an id with a colon in it wins. Raises ``ModelNotFound``."""
        found = self.lookup(name)
        if found is None:
            raise ModelNotFound(name[:MAX_NAME], self._near(name))
        model_id, mode = found
        return Target(model_id=model_id, mode=mode, public_name=name)

    def spec(self, model_id: str) -> ModelSpec:
        """What a handler gets. Raises ``ModelUnavailable`` where the files are missing or refused."""
        return self._look(model_id).spec

    def analysis(self, model_id: str) -> Analysis:
        """What the files tell. Raises ``ModelUnavailable`` as ``spec`` does."""
        analysis = self._look(model_id).analysis
        if analysis is None:
            raise ModelUnavailable(f"The files of the model '{model_id}' could not be analysed.")
        return analysis

    def models(self) -> tuple[CatalogEntry, ...]:
        """Every model, in the order of the configuration."""
        return tuple(self.entry(model_id) for model_id in self._models)

    def entry(self, model_id: str) -> CatalogEntry:
        """One model as it is listed, available or not. Raises ``ModelNotFound``."""
        model = self.model(model_id)
        try:
            analysis = self.analysis(model_id)
        except ModelUnavailable:
            return CatalogEntry(id=model_id, created=0, owned_by=_owner(model), available=False)
        return CatalogEntry(
            id=model_id,
            created=self._created(model),
            owned_by=_owner(model),
            available=True,
            capabilities=analysis.capabilities,
            modes=analysis.modes,
            context_length=analysis.context_length,
        )

    def _known_of(self, config: Config) -> dict[str, _Known]:
        same = [model_id for model_id, model in config.models.items() if self._models.get(model_id) == model]
        return {model_id: known for model_id in same if (known := self._known.get(model_id)) is not None}

    # ------------------------------------------------------------ names

    def lookup(self, name: str) -> tuple[str, str | None] | None:
        """Id and mode of a name; a mode that the client wrote wins over one that the alias has."""
        if found := self._named(name):
            return found
        base, _, mode = name.rpartition(":")
        found = self._named(base) if mode else None
        return found and (found[0], mode)

    def _named(self, name: str) -> tuple[str, str | None] | None:
        """An id, or an alias, which may stand for another alias or for ``id:mode``."""
        target = name
        for _ in range(MAX_ALIASES):
            if target in self._models:
                return target, None
            if target not in self._aliases:
                break
            target = self._aliases[target]
        base, _, mode = target.rpartition(":")
        return (base, mode) if target != name and mode and base in self._models else None

    def _near(self, name: str) -> tuple[str, ...]:
        known = [*self._models, *self._aliases]
        by_lower = {candidate.lower(): candidate for candidate in known}
        near = difflib.get_close_matches(name[:MAX_NAME].lower(), by_lower, n=NEAR_NAMES, cutoff=NEAR_CUTOFF)
        return tuple(by_lower[candidate] for candidate in near)

    # ------------------------------------------------------------ files

    def _look(self, model_id: str) -> _Known:
        """The current knowledge of a model's files. Raises ``ModelUnavailable``."""
        model = self.model(model_id)
        try:
            present = self.store.is_present(model)
            path = self.store.snapshot_path(model) if present else Path()
        except PullFailed as error:
            raise ModelUnavailable(error.message, retry=False) from error
        if not present:
            raise ModelUnavailable(_absent(model_id, model), retry=False)
        if model.command and not has_program(model):
            raise ModelUnavailable(f"The program of the model '{model_id}' is not on this machine.", retry=False)
        known = self._known.get(model_id)
        try:
            signature = tuple(islice(_signature(path), MAX_FILES)) if model.source else ()
            if known is None or known.signature != signature:
                known = self._known[model_id] = _examine(model_id, model, path, signature)
        except OSError as error:
            raise ModelUnavailable(f"The files of the model '{model_id}' cannot be read: {error.strerror}.") from error
        if known.refusal:
            raise ModelUnavailable(known.refusal, retry=False)
        return known

    def _created(self, model: Model) -> int:
        manifest = self.store.manifest(model)
        if manifest is not None:
            return manifest.placed
        return int(self.store.snapshot_path(model).stat().st_mtime) if model.source else 0


def _examine(model_id: str, model: Model, path: Path, signature: Signature) -> _Known:
    """Scan the files, then ask the handler."""
    spec = _spec(model_id, model, path)
    problems = scan(path) if model.source else ()
    if problems:
        return _Known(signature=signature, spec=spec, refusal=_refusal(model_id, problems))
    if model.command:
        spec = _spec(model_id, model, path, KIND)
        return _Known(signature=signature, spec=spec, analysis=analyze_engine(model))
    try:
        if spec.kind == "auto":
            spec = _spec(model_id, model, path, registry.detect(spec.path))
    except ModelUnavailable as error:
        return _Known(signature=signature, spec=spec, refusal=error.message)
    except Exception:  # what a stranger's configuration does to whoever reads it is beyond counting
        logger.warning("the files of '%s' cannot be understood", model_id, exc_info=True)
        return _Known(signature=signature, spec=spec, refusal=_refusal(model_id, ("config.json: cannot be understood",)))
    facts = facts_of(spec)
    refusal = _refusal(model_id, facts.problems) if facts.problems else ""
    return _Known(signature=signature, spec=spec, analysis=facts.analysis, refusal=refusal)


def _spec(model_id: str, model: Model, path: Path, kind: str = "") -> ModelSpec:
    """The configuration's device list is the launcher's business; a handler sees the one it is started with."""
    return ModelSpec(
        id=model_id,
        path=str(path) if model.source else "",
        kind=kind or model.kind,
        device=model.device if isinstance(model.device, str) else ",".join(model.device),
        dtype=model.dtype,
        context_length=model.context_length,
        threads=model.threads,
        options=model.options,
    )


def _refusal(model_id: str, problems: tuple[str, ...]) -> str:
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return f"The model '{model_id}' cannot be served: {'; '.join(problems[:3])}{more}"


def _absent(model_id: str, model: Model) -> str:
    if isinstance(parse_source(model.source), LocalSource) and not model.source.endswith(".gguf"):
        return f"The folder of the model '{model_id}' does not exist."
    return f"The files of the model '{model_id}' are not on this machine yet: 'openai-compat pull {model_id}' fetches them."


def _signature(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name, size, time of change (which nobody can set back) and inode of each file, links not followed."""
    for folder, _, names in os.walk(path, onerror=_raise):
        for name in sorted(names):
            file = os.path.join(folder, name)
            state = os.lstat(file)
            yield file, state.st_size, state.st_ctime_ns, state.st_ino


def _raise(error: OSError) -> None:
    raise error


def _owner(model: Model) -> str:
    source = parse_source(model.source)
    if isinstance(source, BundledSource):
        return "openai-compat"
    if isinstance(source, LocalSource):
        return "local"
    return source.repo.partition("/")[0] if isinstance(source, HubSource) else source.name
