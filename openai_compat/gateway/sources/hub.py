"""Repositories of a model hub: huggingface_hub pins the revision to one commit and lists its files; ``download`` fetches them.

Only formats that the scan lets through are taken: no code and no pickles reach the disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from openai_compat.config import File
from openai_compat.gateway.sources.types import AccessRefused, HubSource, PullFailed, Remote, safe_name

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

SETTINGS = ("*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken", "*.spm")
NOT_OURS = ("*.fp16.safetensors", "*.non_ema.safetensors", "consolidated*.safetensors")
RESOLVE_TIMEOUT = 30.0


class Resolved(Struct, frozen=True, kw_only=True):
    """A repository at one commit, and what to take of it."""

    commit: str
    files: tuple[Remote, ...]


def resolve(source: HubSource, wanted: Sequence[File]) -> Resolved:
    """Pin ``source`` to a commit and choose its files. Raises ``AccessRefused`` or ``PullFailed``."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    info = _model_info(source)
    listed = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    expected = {file.path: file for file in wanted}
    missing = sorted(expected.keys() - listed.keys())
    if missing:
        raise PullFailed(f"{source.repo} at {source.revision} has no file '{missing[0]}'.")
    headers = build_hf_headers()
    files = []
    for name in expected or choose(listed, source):
        url = hf_hub_url(source.repo, name, revision=info.sha, endpoint=_endpoint())
        files.append(_remote(listed[name], url, headers, expected.get(name)))
    return Resolved(commit=str(info.sha), files=tuple(files))


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _model_info(source: HubSource) -> Any:
    import httpx2
    from huggingface_hub import HfApi, errors

    at = f"{source.repo} at {source.revision}"
    try:
        api = HfApi(endpoint=_endpoint())
        return api.model_info(source.repo, revision=source.revision, files_metadata=True, timeout=RESOLVE_TIMEOUT)
    except errors.GatedRepoError as error:
        raise AccessRefused(f"{source.repo} is gated: accept its terms on the hub, then set HF_TOKEN.") from error
    except errors.RevisionNotFoundError as error:
        raise PullFailed(f"{source.repo} has no revision '{source.revision}'.") from error
    except errors.RepositoryNotFoundError as error:
        raise AccessRefused(f"{source.repo} does not exist, or it is private: set HF_TOKEN.") from error
    except errors.OfflineModeIsEnabled as error:
        raise PullFailed(f"{at} cannot be looked up: HF_HUB_OFFLINE is set.") from error
    except errors.HFValidationError as error:
        raise PullFailed(f"'{source.repo}' is not the name of a repository.") from error
    except errors.HfHubHTTPError as error:
        raise _refusal(at, error.response.status_code) from error
    except httpx2.HTTPError as error:
        raise PullFailed(f"{at} cannot be looked up: the hub is not reachable.") from error


def _refusal(at: str, status: int) -> PullFailed:
    if status in (401, 403):
        return AccessRefused(f"{at}: access was refused (HTTP {status}); set HF_TOKEN to a token that may read it.")
    return PullFailed(f"{at} cannot be looked up: the hub answered HTTP {status}.")


def _remote(sibling: RepoSibling, url: str, headers: dict[str, str], wanted: File | None) -> Remote:
    """Large files are known by their sha256, small ones by git's hash of them."""
    large = sibling.lfs
    sha256 = wanted.sha256.lower() if wanted else large.sha256 if large else None
    return Remote(
        url=url,
        name=safe_name((wanted and wanted.name) or sibling.rfilename),
        size=sibling.size,
        sha256=sha256,
        git_sha1=None if sha256 else sibling.blob_id,
        headers=headers,
    )


def choose(names: Iterable[str], source: HubSource) -> list[str]:
    """Settings, and one set of weights: safetensors, else the single GGUF, ONNX or CTranslate2 model. Raises ``PullFailed``."""
    names = sorted(names)
    settings = [name for name in names if any(fnmatch(PurePosixPath(name).name, pattern) for pattern in SETTINGS)]
    weights = _safetensors(names)
    if not weights:
        weights = [name for name in names if name.endswith((".gguf", ".onnx")) or name == "model.bin"]
        if len(weights) > 1:
            raise PullFailed(f"{source.repo} holds {len(weights)} models; name one with its sha256 in 'files': {weights[0]}, …")
    if not weights:
        raise PullFailed(f"{source.repo} holds no weights in an allowed format (safetensors, GGUF, ONNX, CTranslate2).")
    return settings + weights


def _safetensors(names: list[str]) -> list[str]:
    """Those of a pipeline's parts, or those at the top; never the same weights once more in another spelling."""
    found = [name for name in names if name.endswith(".safetensors")]
    plain = [name for name in found if not any(fnmatch(PurePosixPath(name).name, pattern) for pattern in NOT_OURS)]
    kept = plain or found
    top = [name for name in kept if "/" not in name]
    return kept if "model_index.json" in names or not top else top
