"""Keys of upstreams: where they come from, when they change, and where they are never seen."""

from __future__ import annotations

import os
from typing import Any

import pytest

from openai_compat.config import Upstream
from openai_compat.gateway.upstreams.keys import Key, KeyUnavailable

KEY = "sk-very-secret-1"


def key(**settings: Any) -> Key:
    return Key(Upstream(base_url="http://h", **settings), look_every=0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    return path


def test_a_key_comes_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    assert dict(key(api_key_env="SOME_KEY").headers()) == {"authorization": f"Bearer {KEY}"}


def test_a_key_comes_from_a_file_without_the_end_of_its_line(file) -> None:
    assert dict(key(api_key_file=str(file)).headers()) == {"authorization": f"Bearer {KEY}"}


def test_another_header_takes_the_key_as_it_is(file) -> None:
    assert dict(key(api_key_file=str(file), api_key_header="Api-Key").headers()) == {"api-key": KEY}


def test_organisation_and_project_go_along_with_a_key_or_without(file) -> None:
    names = {"openai-organization": "org", "openai-project": "proj"}
    with_key = key(api_key_file=str(file), organization="org", project="proj")
    assert dict(with_key.headers()) == {"authorization": f"Bearer {KEY}", **names}
    assert dict(key(organization="org", project="proj").headers()) == names
    assert key().headers() == ()


def test_the_headers_are_the_same_object_until_the_file_changes(file) -> None:
    held = key(api_key_file=str(file))
    first = held.headers()
    assert held.headers() is first
    assert held.secret == KEY
    other = file.with_name("new")
    other.write_text("sk-another-secr1\n")  # of the same size, and put in its place as secrets are rotated
    os.utime(other, ns=(0, os.stat(file).st_mtime_ns))
    other.rename(file)
    assert dict(held.headers()) == {"authorization": "Bearer sk-another-secr1"}
    file.write_text("sk-third")
    assert held.headers()[0][1] == "Bearer sk-third"
    assert held.secret == "sk-third"


def test_a_file_is_not_looked_at_for_every_request(file) -> None:
    held = Key(Upstream(base_url="http://h", api_key_file=str(file)), look_every=3600)
    held.headers()
    file.unlink()
    assert held.headers()[0][1] == f"Bearer {KEY}"


def test_a_key_that_is_gone_is_not_used_any_longer_and_one_that_is_back_is(file) -> None:
    held = key(api_key_file=str(file))
    held.headers()
    file.unlink()
    for _ in range(2):
        with pytest.raises(KeyUnavailable):
            held.headers()
    file.write_text(KEY)
    assert held.headers()[0][1] == f"Bearer {KEY}"


def test_a_key_that_is_not_there_is_said_so_without_its_place(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(KeyUnavailable, match="environment variable with its key is not set"):
        key(api_key_env="NO_SUCH_KEY").headers()
    with pytest.raises(KeyUnavailable, match="No such file") as missing:
        key(api_key_file=str(tmp_path / "nothing")).headers()
    assert str(tmp_path) not in str(missing.value)
    with pytest.raises(KeyUnavailable, match="Is a directory"):
        key(api_key_file=str(tmp_path)).headers()


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"a\r\nx-evil: 1", "schlüssel".encode(), b"\xff\xfe"])
def test_what_cannot_be_a_header_is_no_key(file, content) -> None:
    file.write_bytes(content)
    with pytest.raises(KeyUnavailable) as refusal:
        key(api_key_file=str(file)).headers()
    assert "evil" not in str(refusal.value)


def test_a_key_is_in_no_repr(file) -> None:
    held = key(api_key_file=str(file))
    held.headers()
    assert KEY not in repr(held)
