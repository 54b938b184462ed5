"""What is installed is what was locked, and installing runs no code but the lock's own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "locks"
AUDIT = LOCKS / "audit.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINNED = re.compile(
    r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^\s;+]+)\S*[^\n]*\\\n(?P<hashes>(?:    --hash=\S+[^\n]*\n)+)", re.MULTILINE
)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
PACKAGES = ("openai_compat", "handlers", "routes", "schemas")
FLOORS = {"transformers": "5.2.99", "diffusers": "0.37.99", "litestar": "2.24.99", "pillow": "12.2.99", "torch": "2.5.99"}
WATCHED = """
import sys
def watch(event, args):
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes or event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "urllib.Request"):
        print("did", event, args, file=sys.stderr); sys.exit(1)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
import openai_compat.app, openai_compat.cli, handlers.registry, routes.chat, schemas.chat
"""


def locked(name: str) -> dict[str, re.Match[str]]:
    text = (LOCKS / f"{name}.txt").read_text()
    found = {match["name"]: match for match in PINNED.finditer(text)}
    assert len(found) == len(re.findall(r"^[a-z0-9].*==", text, re.MULTILINE)), f"{name}.txt has a package without a hash"
    return found


FILES = sorted(path.stem for path in LOCKS.glob("*.txt") if path.stem != "other-wheels")


@pytest.mark.parametrize("name", FILES)
def test_a_lock_takes_wheels_only_and_each_by_its_sha256(name) -> None:
    assert "--only-binary :all:\n" in (LOCKS / f"{name}.txt").read_text()
    for match in locked(name).values():
        lines = [line.strip(" \\") for line in match["hashes"].splitlines()]
        assert [line for line in lines if not HASH.fullmatch(line)] == []


@pytest.mark.parametrize("extra", ["server", "dev", "fuzz", "release", "compiler", "quantization"])
def test_every_direct_dependency_is_locked_at_a_version_that_it_allows(extra) -> None:
    wanted = PROJECT["project"]["dependencies"] if extra == "server" else PROJECT["project"]["optional-dependencies"][extra]
    have = locked("server") | locked("torch") | (locked(extra) if extra != "server" else {})
    for requirement in map(Requirement, [*wanted, *PROJECT["build-system"]["requires"]]):
        match = have[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(match["version"]), f"{requirement}: run `make lock`"


def test_the_constraints_and_the_locks_name_the_same_versions() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    together = {name: match["version"] for file in FILES for name, match in locked(file).items()}
    assert together == pins


def test_every_version_that_had_a_known_weakness_is_refused() -> None:
    asked = {canonicalize_name(found.name): found for found in map(Requirement, PROJECT["project"]["dependencies"])}
    assert {name for name, weak in FLOORS.items() if asked[name].specifier.contains(weak)} == set()


def test_everything_is_installed_from_the_lock() -> None:
    lines = [*(ROOT / "Makefile").read_text().splitlines(), *(ROOT / "Dockerfile").read_text().splitlines()]
    assert [line for line in lines if "pip install" in line] == []
    assert any("python locks/install.py" in line for line in lines if line.startswith("RUN"))
    source = (LOCKS / "install.py").read_text()
    assert all(
        flag in source for flag in ('"--require-hashes", "--only-binary", ":all:"', '"--no-deps"', '"--no-build-isolation"')
    )


def test_a_file_that_is_not_the_locked_one_is_not_installed(tmp_path) -> None:
    """The same name and version with one more file in it, as from an index that was broken into."""
    shutil.copytree(LOCKS, tmp_path / "locks")
    wheel = tmp_path / "idna-3.20-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("idna.pth", "import os")
        archive.writestr("idna-3.20.dist-info/METADATA", "Metadata-Version: 2.1\nName: idna\nVersion: 3.20\n")
        archive.writestr("idna-3.20.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("idna-3.20.dist-info/RECORD", "")
    lock = tmp_path / "locks" / "only.txt"
    lock.write_text("idna==3.20 \\\n" + locked("server")["idna"]["hashes"])
    tool = (
        (LOCKS / "install.py")
        .read_text()
        .replace(
            '"install", ',
            f'"install", "--no-index", "--find-links", {str(tmp_path)!r}, "--target", {str(tmp_path / "here")!r}, ',
        )
    )
    (tmp_path / "locks" / "install.py").write_text(tool)
    done = subprocess.run([sys.executable, tmp_path / "locks" / "install.py", "--only", "only"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "here").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The wheel and the source archive, made by the locked build tool in a copy of the tree."""
    folder = tmp_path_factory.mktemp("build")
    for name in (*PACKAGES, "locks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    code = "from setuptools import build_meta as b; b.build_wheel('dist'); b.build_sdist('dist')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, check=True, capture_output=True)
    return folder / "dist"


def test_the_wheel_holds_the_packages_and_nothing_else(built) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert [
        name
        for name in names
        if re.search(
            r"\.(pth|so|dll|dylib|exe|sh|pyc|pkl|pt|bin)$|(^|/)(tests?|conftest\.py|setup\.py|sitecustomize\.py)(/|$)|\.data/",
            name,
        )
    ] == []
    here = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == here
    assert entry_points.split() == ["[console_scripts]", "openai-compat", "=", "openai_compat.cli:main"]


def test_the_source_archive_has_no_code_that_installing_runs(built) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {name for name in names if name in ("setup.py", "conftest.py") or name.endswith((".pth", ".pyc"))} == set()
    assert PROJECT["build-system"] == {
        "requires": PROJECT["build-system"]["requires"],
        "build-backend": "setuptools.build_meta",
    }
    assert not {"cmdclass", "ext-modules"} & set(PROJECT["tool"]["setuptools"])


def test_importing_the_server_starts_nothing_and_writes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", WATCHED], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, AUDIT, "--osv-url", url], capture_output=True, text=True, timeout=120)


def test_an_audit_that_reaches_nobody_says_so_and_passes() -> None:
    done = audit("http://127.0.0.1:9/v1/query")
    assert (done.returncode, done.stdout) == (
        0,
        "audit: no advisory service can be reached from here; the lock was not checked\n",
    )


@pytest.mark.skipif(find_spec("pip_audit") is None, reason="pip-audit is installed by `make audit`")
@pytest.mark.parametrize(("weak", "status"), [("idna", 1), ("nothing-of-this-lock", 0)])
def test_an_audit_fails_where_a_service_knows_a_weakness(weak, status) -> None:
    with advisories(weak) as url:
        done = audit(url)
    assert done.returncode == status, done.stderr
    assert ("PYSEC-0000-1" in done.stdout) == bool(status)


@contextmanager
def advisories(weak: str) -> Iterator[str]:
    """A service that knows of one weakness in one package, in OSV's words."""
    found = {
        "id": "PYSEC-0000-1",
        "summary": "made up",
        "modified": "2026-01-01T00:00:00Z",
        "affected": [{"package": {"name": weak, "ecosystem": "PyPI"}}],
    }

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps({"vulns": [found]} if asked["package"]["name"] == weak else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
