"""A hub's revision is pinned to a commit, what is refused is told so that one can act, and no code or pickle is taken."""

from __future__ import annotations

from typing import Any

import pytest

from openai_compat.config import File
from openai_compat.gateway.sources.hub import choose, resolve
from openai_compat.gateway.sources.types import AccessRefused, HubSource, PullFailed

TINY = HubSource("org/tiny", "main")


def test_a_revision_is_pinned_to_its_commit(hub: Any) -> None:
    hub.publish({"model.safetensors": b"abc", "config.json": b"{}"}, revision="v1", commit="a" * 40)
    found = resolve(HubSource("org/tiny", "v1"), ())
    assert found.commit == "a" * 40
    assert all(f"/resolve/{'a' * 40}/" in remote.url for remote in found.files)
    weights = next(remote for remote in found.files if remote.name == "model.safetensors")
    assert (weights.size, weights.sha256) == (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert next(remote.git_sha1 for remote in found.files if remote.name == "config.json")


def test_only_allowed_formats_are_taken(hub: Any) -> None:
    names = ["config.json", "tokenizer.model", "chat_template.jinja", "merges.txt", "model.safetensors"]
    others = [
        "modeling.py",
        "pytorch_model.bin",
        "flax_model.msgpack",
        "x.pkl",
        "README.md",
        "original/model.safetensors",
        "a.onnx",
    ]
    hub.publish(dict.fromkeys(names + others, b"x"))
    assert sorted(remote.name for remote in resolve(TINY, ()).files) == sorted(names)


def test_named_files_are_taken_under_their_new_names(hub: Any) -> None:
    hub.publish({"a.Q4.gguf": b"x", "a.Q8.gguf": b"y", "config.json": b"{}"})
    (remote,) = resolve(TINY, [File(path="a.Q4.gguf", sha256="F" * 64, name="model.gguf")]).files
    assert (remote.name, remote.sha256, remote.git_sha1) == ("model.gguf", "f" * 64, None)
    assert remote.url.endswith("/a.Q4.gguf")
    with pytest.raises(PullFailed, match="has no file 'gone'"):
        resolve(TINY, [File(path="gone", sha256="0")])


@pytest.mark.parametrize(
    ("status", "headers", "kind", "reason"),
    [
        (401, {"x-error-code": "GatedRepo"}, AccessRefused, "is gated"),
        (403, {"x-error-code": "GatedRepo"}, AccessRefused, "is gated"),
        (401, {"x-error-code": "RepoNotFound"}, AccessRefused, "HF_TOKEN"),
        (404, {"x-error-code": "RepoNotFound"}, AccessRefused, "does not exist"),
        (404, {"x-error-code": "RevisionNotFound"}, PullFailed, "no revision 'main'"),
        (403, {}, AccessRefused, "HF_TOKEN"),
        (400, {}, PullFailed, "HTTP 400"),
    ],
)
def test_what_the_hub_refuses_is_told_clearly(hub: Any, status: int, headers: dict[str, str], kind: type, reason: str) -> None:
    hub.fail(status, **headers)
    with pytest.raises(kind, match=reason) as caught:
        resolve(TINY, ())
    assert hub.server.url not in str(caught.value)


@pytest.mark.usefixtures("no_hub")
def test_a_hub_that_is_not_there_is_told() -> None:
    with pytest.raises(PullFailed, match="not reachable"):
        resolve(TINY, ())


@pytest.mark.parametrize(
    ("names", "weights"),
    [
        (["model.safetensors", "consolidated.safetensors", "model.fp16.safetensors"], ["model.safetensors"]),
        (["consolidated.safetensors"], ["consolidated.safetensors"]),
        (["model_index.json", "unet/a.safetensors", "vae/b.safetensors"], ["unet/a.safetensors", "vae/b.safetensors"]),
        (["model.bin", "pytorch_model.bin"], ["model.bin"]),
        (["m.gguf"], ["m.gguf"]),
    ],
)
def test_one_set_of_weights_is_chosen(names: list[str], weights: list[str]) -> None:
    assert [name for name in choose(names, TINY) if not name.endswith(".json")] == weights


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["a.gguf", "b.gguf"], "name one"), (["pytorch_model.bin", "x.py"], "no weights in an allowed format")],
)
def test_no_clear_choice_is_an_error(names: list[str], reason: str) -> None:
    with pytest.raises(PullFailed, match=reason):
        choose(names, TINY)
