"""Forbidden keys are found in every spelling and size of JSON, and nothing else is taken for one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.headers import BadHeader
from openai_compat.gateway.scan.json_keys import PARSED_BYTES, check_json


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("spelling", ["auto_map", "\\u0061uto_map", "auto\\u005Fmap", "auto\\u005fm\\u0061p"])
@pytest.mark.parametrize("padding", [0, PARSED_BYTES])
def test_a_forbidden_key_is_found_in_any_spelling_and_size(tmp_path: Path, spelling: str, padding: int) -> None:
    content = '{"filler": "' + "x" * padding + '", "deep": [{"' + spelling + '": {}}]}'
    with pytest.raises(BadHeader, match="auto_map"):
        check_json(write(tmp_path / "config.json", content))


@pytest.mark.parametrize("padding", [0, PARSED_BYTES])
def test_internal_settings_are_forbidden_and_words_like_them_are_not(tmp_path: Path, padding: int) -> None:
    filler = "x" * padding
    check_json(write(tmp_path / "config.json", json.dumps({"a": filler, "_internal": 1, "b_internal": 2, "x": "auto_map"})))
    with pytest.raises(BadHeader, match="_any_internal"):
        check_json(write(tmp_path / "config.json", json.dumps({"a": filler, "_any_internal": 1})))


@pytest.mark.parametrize("padding", [0, PARSED_BYTES])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_a_kernel_from_a_repository_is_refused_and_a_built_in_one_is_not(tmp_path: Path, key: str, padding: int) -> None:
    def settings(value: object) -> str:
        return json.dumps({"filler": "x" * padding, "text_config": {key: value}})

    for known in ("sdpa", None, {"text_config": "eager"}):
        check_json(write(tmp_path / "config.json", settings(known)))
    for foreign in ("kernels-community/any", "paged|some/kernel@main", {"": "eager", "vision_config": "some/kernel:f"}):
        with pytest.raises(BadHeader, match=key):
            check_json(write(tmp_path / "config.json", settings(foreign)))


@pytest.mark.parametrize("padding", [0, PARSED_BYTES])
def test_a_vocabulary_may_hold_any_word(tmp_path: Path, padding: int) -> None:
    words = {"auto_map": 1, "_x_internal": 2}
    check_json(write(tmp_path / "tokenizer.json", json.dumps({"a": "x" * padding, "model": {"vocab": words}})))
    check_json(write(tmp_path / "vocab.json", json.dumps(words)))
    with pytest.raises(BadHeader):
        check_json(write(tmp_path / "tokenizer.json", json.dumps({"model": {"vocab": {"auto_map": {"a": "b"}}}})))
    with pytest.raises(BadHeader):
        check_json(write(tmp_path / "config.json", json.dumps({"model": {"vocab": words}})))


@pytest.mark.parametrize("content", ["", "{", "\ufeff{}", b"\xff{}", "[" * 100_000, '{"a":' * 100_000, "[" * 150 + "]" * 150])
def test_what_is_not_sensible_json_is_refused(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(BadHeader):
        check_json(write(tmp_path / "config.json", content))


def test_numbers_that_python_writes_are_json_enough(tmp_path: Path) -> None:
    check_json(write(tmp_path / "config.json", '{"time_step_limit": [0.0, Infinity], "x": [NaN], "longest": Infinity}'))


def test_a_large_tokenizer_is_checked_within_a_second(tmp_path: Path) -> None:
    words = {f"_word{number}": number for number in range(1_000_000)}
    path = write(tmp_path / "tokenizer.json", json.dumps({"model": {"vocab": words}}))
    started = time.process_time()
    check_json(path)
    assert time.process_time() - started < 1


_TREES = st.recursive(
    st.none() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(["auto_map", "a", "_b_internal"]), children)
    ),
    max_leaves=8,
)


def _holds(tree: object) -> bool:
    if isinstance(tree, dict):
        return any(key != "a" or _holds(value) for key, value in tree.items())
    return isinstance(tree, list) and any(_holds(value) for value in tree)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=_TREES)
def test_exactly_the_trees_with_such_a_key_are_refused(tmp_path: Path, tree: object) -> None:
    path = write(tmp_path / "config.json", json.dumps(tree))
    try:
        check_json(path)
    except BadHeader:
        assert _holds(tree)
    else:
        assert not _holds(tree)
