"""What the command line asks about models, as plain functions: pull, check, describe. Nothing here loads a model or prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Semaphore, Thread

from msgspec import Struct

from handlers.types import Analysis, ModelSpec
from openai_compat.config import Config, Model
from openai_compat.errors import ModelUnavailable
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.sources.download import file_hash
from openai_compat.gateway.sources.store import silent
from openai_compat.gateway.sources.types import Manifest, PullFailed, Report

SIDE_BY_SIDE = 4


class Pulled(Struct, frozen=True, kw_only=True):
    """How the pull of one model ended: ``path`` to load from, or ``error``."""

    id: str
    path: str = ""
    error: str = ""


class Checked(Struct, frozen=True, kw_only=True):
    """Whether a model's files are here, and what is wrong with them; ``present`` is false before the first pull.

    The ``source`` of an engine is its program.
    """

    id: str
    source: str
    present: bool
    problems: tuple[str, ...] = ()


class Description(Struct, frozen=True, kw_only=True):
    """Everything known of a model without loading it."""

    id: str
    source: str
    spec: ModelSpec
    analysis: Analysis
    manifest: Manifest | None


def pull_models(config: Config, names: Sequence[str] = (), report: Report = silent) -> tuple[Pulled, ...]:
    """Pull the named models, all of them without names; one that fails does not keep the others. Raises ``ModelNotFound``.

    Some are pulled side by side, so ``report`` is called from several threads.
    """
    catalog = Catalog(config)
    return _side_by_side(partial(_pull, catalog, report=report), _chosen(catalog, names))


def missing_models(config: Config) -> tuple[str, ...]:
    """Ids of the models that a pull would have to fetch or convert."""
    catalog = Catalog(config)
    return tuple(model_id for model_id in catalog.ids if not _is_present(catalog, model_id))


def check_models(config: Config, names: Sequence[str] = (), *, hashes: bool = False) -> tuple[Checked, ...]:
    """Scan the files of the named models, all of them without names; ``hashes`` reads every byte of pulled ones again."""
    catalog = Catalog(config)
    return tuple(_check(catalog, model_id, hashes) for model_id in _chosen(catalog, names))


def describe_model(config: Config, name: str) -> Description:
    """Raises ``ModelNotFound``, and ``ModelUnavailable`` where the files are missing or refused."""
    catalog = Catalog(config)
    model_id = catalog.resolve(name).model_id
    model = catalog.model(model_id)
    return Description(
        id=model_id,
        source=_source(model),
        spec=catalog.spec(model_id),
        analysis=catalog.analysis(model_id),
        manifest=catalog.store.manifest(model),
    )


def _chosen(catalog: Catalog, names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(catalog.resolve(name).model_id for name in names)) if names else list(catalog.ids)


def _side_by_side(pull: Callable[[str], Pulled], model_ids: Sequence[str]) -> tuple[Pulled, ...]:
    """On threads that do not outlive an interruption: an executor would wait for gigabytes before the process may end."""
    room = Semaphore(SIDE_BY_SIDE)
    futures: dict[str, Future[Pulled]] = {model_id: Future() for model_id in model_ids}
    for model_id, future in futures.items():
        Thread(target=_fulfil, args=(future, room, pull, model_id), daemon=True).start()
    return tuple(future.result() for future in futures.values())


def _fulfil(future: Future[Pulled], room: Semaphore, pull: Callable[[str], Pulled], model_id: str) -> None:
    with room:
        try:
            future.set_result(pull(model_id))
        except BaseException as error:  # raised where the result is waited for
            future.set_exception(error)


def _pull(catalog: Catalog, model_id: str, report: Report) -> Pulled:
    model = catalog.model(model_id)
    if model.command:
        return Pulled(id=model_id, path=_source(model))
    try:
        path = catalog.store.pull(model, report, model_id=model_id)
    except PullFailed as error:
        return Pulled(id=model_id, error=error.message)
    return Pulled(id=model_id, path=str(path))


def _is_present(catalog: Catalog, model_id: str) -> bool:
    try:
        return catalog.store.is_present(catalog.model(model_id))
    except PullFailed:
        return True


def _check(catalog: Catalog, model_id: str, hashes: bool) -> Checked:
    model = catalog.model(model_id)
    try:
        present = catalog.store.is_present(model)
        if present:
            catalog.spec(model_id)
    except ModelUnavailable as error:
        return Checked(id=model_id, source=_source(model), present=True, problems=(error.message,))
    problems = tuple(_changed(catalog, model_id)) if hashes and present else ()
    return Checked(id=model_id, source=_source(model), present=present, problems=problems)


def _source(model: Model) -> str:
    return model.source or next(iter(model.command), "")


def _changed(catalog: Catalog, model_id: str) -> Iterator[str]:
    model = catalog.model(model_id)
    manifest = catalog.store.manifest(model)
    folder = catalog.store.snapshot_path(model)
    for file in manifest.files if manifest else ():
        if file_hash(folder / file.name) != file.sha256:
            yield f"{file.name}: has changed since it was placed"
