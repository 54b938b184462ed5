"""A download goes on where it was cut off, ends with the right bytes or with an error, and tells how far it is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from openai_compat.gateway.sources.download import TRIES, download
from openai_compat.gateway.sources.types import AccessRefused, PullFailed, Remote

CONTENT = bytes(range(256)) * 5000
SHA = hashlib.sha256(CONTENT).hexdigest()


def nothing(done: int, total: int) -> None: ...


def remote(server: Any, **known: Any) -> Remote:
    return Remote(url=f"{server.url}/w", name="w", **known)


def test_a_file_comes_whole_and_its_progress_is_told(server: Any, tmp_path: Path) -> None:
    server.put("/w", CONTENT)
    told: list[tuple[int, int]] = []
    download(remote(server, sha256=SHA, size=len(CONTENT)), tmp_path / "w", lambda done, total: told.append((done, total)))
    assert (tmp_path / "w").read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("known", [{"sha256": SHA}, {"size": len(CONTENT)}, {}])
def test_a_transfer_that_breaks_off_is_gone_on_with(server: Any, tmp_path: Path, known: dict[str, Any]) -> None:
    server.put("/w", CONTENT).break_after = [400_000, 500_000]
    download(remote(server, **known), tmp_path / "w", nothing)
    assert (tmp_path / "w").read_bytes() == CONTENT
    assert server.ranges_of("/w") == [None, "bytes=400000-", "bytes=900000-"]


def test_the_bytes_of_an_earlier_run_are_not_asked_for_again(server: Any, tmp_path: Path) -> None:
    server.put("/w", CONTENT)
    (tmp_path / "w.part").write_bytes(CONTENT[:123_456])
    download(remote(server, sha256=SHA), tmp_path / "w", nothing)
    assert (tmp_path / "w").read_bytes() == CONTENT
    assert server.ranges_of("/w") == ["bytes=123456-"]


def test_a_complete_part_without_known_size_is_accepted(server: Any, tmp_path: Path) -> None:
    server.put("/w", CONTENT)
    (tmp_path / "w.part").write_bytes(CONTENT)
    download(remote(server, sha256=SHA), tmp_path / "w", nothing)
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(server: Any, tmp_path: Path) -> None:
    server.put("/w", CONTENT).ranges = False
    (tmp_path / "w.part").write_bytes(CONTENT[:99])
    download(remote(server, sha256=SHA), tmp_path / "w", nothing)
    assert (tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"wrong bytes", CONTENT + b"too many"])
def test_a_part_that_does_not_belong_is_thrown_away(server: Any, tmp_path: Path, part: bytes) -> None:
    server.put("/w", CONTENT)
    (tmp_path / "w.part").write_bytes(part)
    download(remote(server, sha256=SHA), tmp_path / "w", nothing)
    assert (tmp_path / "w").read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"git_sha1": "0" * 40}])
def test_a_wrong_hash_is_refused_and_leaves_nothing(server: Any, tmp_path: Path, known: dict[str, str]) -> None:
    server.put("/w", CONTENT)
    with pytest.raises(PullFailed, match="hash differs"):
        download(remote(server, **known), tmp_path / "w", nothing)
    assert list(tmp_path.iterdir()) == []


def test_small_files_are_known_by_gits_hash(server: Any, tmp_path: Path) -> None:
    server.put("/w", b"{}")
    download(remote(server, git_sha1=hashlib.sha1(b"blob 2\0{}").hexdigest()), tmp_path / "w", nothing)
    assert (tmp_path / "w").read_bytes() == b"{}"


@pytest.mark.parametrize(("status", "kind"), [(401, AccessRefused), (403, AccessRefused), (404, PullFailed), (410, PullFailed)])
def test_a_refusal_is_told_at_once(server: Any, tmp_path: Path, status: int, kind: type[PullFailed]) -> None:
    server.put("/w", b"no").status = status
    with pytest.raises(kind, match=f"HTTP {status}"):
        download(remote(server), tmp_path / "w", nothing)
    assert len(server.requests) == 1


def test_a_failing_server_is_asked_a_few_times(server: Any, tmp_path: Path) -> None:
    server.put("/w", b"no").status = 503
    with pytest.raises(PullFailed, match="HTTP 503"):
        download(remote(server), tmp_path / "w", nothing)
    assert len(server.requests) == TRIES


def test_a_server_that_is_not_there_is_an_error(server: Any, tmp_path: Path) -> None:
    gone = Remote(url="http://127.0.0.1:9/w", name="w")
    with pytest.raises(PullFailed, match="broke off"):
        download(gone, tmp_path / "w", nothing)


def test_credentials_do_not_follow_a_redirect_to_another_host(server: Any, tmp_path: Path) -> None:
    server.put("/far", CONTENT)
    server.put("/w", b"", location=f"http://localhost:{server.server_port}/far").status = 302
    download(remote(server, headers={"authorization": "Bearer secret"}), tmp_path / "w", nothing)
    assert [headers.get("authorization") for headers in server.seen_headers] == ["Bearer secret", None]
    assert (tmp_path / "w").read_bytes() == CONTENT


def test_more_than_the_disk_holds_is_refused_before_the_first_byte(server: Any, tmp_path: Path) -> None:
    server.put("/w", CONTENT)
    with pytest.raises(PullFailed, match="the disk has"):
        download(remote(server, size=2**60), tmp_path / "w", nothing)
    assert not (tmp_path / "w.part").exists()
