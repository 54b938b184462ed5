"""Pictures and sounds by URL as the SDK sends them, from the installed command to a web server at a public address.

That address is this machine's in a network of its own, which only Linux lends to tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(__file__).with_name("remote_media.py")
ALONE = ["unshare", "--map-root-user", "--net", "--mount"]


@pytest.fixture(scope="module")
def seen(tiny_mixed: Callable[..., Path], bundled_folder: Callable[[str], Path], tmp_path_factory: Any) -> dict[str, Any]:
    """What the scenario saw."""
    if (
        not all(map(shutil.which, ("unshare", "ip", "mount", "openssl")))
        or subprocess.run([*ALONE, "true"], capture_output=True).returncode
    ):
        pytest.skip("there is no network of its own for a test here")
    folder = tmp_path_factory.mktemp("remote")
    sources = {name: tiny_mixed(name) for name in ("llava", "qwen2_audio")} | {"shapes-clip": bundled_folder("shapes-clip")}
    models = [f"[models.{name}]\nsource = {json.dumps(str(path))}\nthreads = 1\n" for name, path in sources.items()]
    config = folder / "config.toml"
    config.write_text("[media]\nremote_urls = true\ntimeout = 3.0\n" + "".join(models))
    command = [*ALONE, sys.executable, str(SCENARIO), str(config), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_what_is_fetched_is_answered_as_what_is_sent(seen) -> None:
    assert len(set(seen["chat"])) == 1
    assert len(set(seen["sound"])) == 1
    assert seen["vectors"][0] == seen["vectors"][1]
    assert seen["public"][:4] == [
        "pictures.example/a.png", "pictures.example/moved", "pictures.example/a.png", "93.184.215.14/a.png",
    ]  # fmt: skip
    assert seen["secure"] == ["pictures.example/a.png"]


@pytest.mark.slow
def test_nothing_of_the_network_behind_it_is_asked_or_told(seen) -> None:
    assert seen["private"] == []
    codes, params, bodies, seconds = zip(*seen["refused"], strict=True)
    assert set(codes) == {"invalid_image_url"}
    assert set(params) == {"messages[0].content[1].image_url"}
    assert len({json.dumps(body) for body in bodies}) == 1
    assert min(seconds) >= 0.99
    for leak in ("a.png", "10.1.2.3"):
        assert leak not in json.dumps(bodies)
    assert "a.png" not in seen["log"]
