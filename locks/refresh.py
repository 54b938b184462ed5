"""Writes the lock files of this folder and ``constraints.txt`` from ``pyproject.toml``; `make lock` calls it.

Each file names every package that it needs, indirect ones included, with its version and the sha256 of each wheel of that
version, for every platform and Python that the project supports. ``server.txt`` and a torch are complete in themselves; the
others are what comes on top of them. Versions stay as ``constraints.txt`` has them, unless ``--upgrade`` is given.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
CONSTRAINTS = ROOT / "constraints.txt"
INDEX = "https://pypi.org/simple"
EXTRAS = ("compiler", "quantization", "dev", "fuzz", "release")
"""Each becomes a file of the same name."""
ON_GPUS = re.compile(r"(nvidia|cuda)-|triton$")
"""What torch of the public index brings along on Linux, some gigabytes; the CPU build of the same version does not."""
OTHER_WHEELS = HERE / "other-wheels.txt"
PACKAGE = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>\S+)", re.MULTILINE)
CONFORMANCE = HERE / "conformance"
"""The clients that the conformance suite runs, in environments of their own: they hold back one another."""
HEAD = "# Written by `make lock`: what {what}, by version and sha256.\n--only-binary :all:\n"
WHAT = {
    "server": "the server is installed from",
    "cuda": "torch needs besides on Linux where it is no CPU build",
    "torch": "torch is installed from where no index has its CPU build",
    "torch-cpu": "torch is installed from where an index has its CPU build",
}

FOR_CLIENTS = (
    "# Written by `make lock`: what the suite's environment `{name}` is made of, by version and sha256.\n--only-binary :all:\n"
)

Blocks = dict[str, str]
"""The lines of each package, by its name."""


def main() -> None:
    pins = None if "--upgrade" in sys.argv[1:] else CONSTRAINTS
    for wanted in sorted(CONFORMANCE.glob("*.in")):
        clients(wanted, keep=pins is not None)
    everything = resolve(pins, *EXTRAS)
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.txt")
        found.write_text(constraints(everything))
        CONSTRAINTS.write_text(found.read_text())
        server = resolve(found)
        torch = server.pop("torch")
        write("server", {name: lines for name, lines in server.items() if not ON_GPUS.match(name)})
        write("cuda", {name: lines for name, lines in server.items() if ON_GPUS.match(name)})
        write("torch", {"torch": torch})
        write("torch-cpu", {"torch": cpu_build(torch)})
        for extra in EXTRAS:
            write(extra, {name: lines for name, lines in resolve(found, extra).items() if name not in {*server, "torch"}})


def clients(wanted: Path, *, keep: bool) -> None:
    lock = wanted.with_suffix(".txt")
    pins = [line.removesuffix(" \\") for line in lock.read_text().splitlines() if keep and PACKAGE.match(line)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as before:
        before.write("\n".join(pins))  # with their markers: a package may have one version for each Python
        before.flush()
        found = compiled([str(wanted)], Path(before.name))
    lock.write_text(FOR_CLIENTS.format(name=wanted.stem) + found)


def resolve(pins: Path | None, *extras: str) -> Blocks:
    """The whole closure of the project, of what it is built with, and of ``extras``."""
    chosen = [word for extra in extras for word in ("--extra", extra)]
    built = "\n".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"])
    return blocks(compiled(["pyproject.toml", "-", *chosen], pins, said=built))


def compiled(words: list[str], pins: Path | None, *, said: str = "") -> str:
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", *words, "--universal", "--generate-hashes", "--quiet"]
    command += ["--python-version", "3.11", "--only-binary", ":all:", "--default-index", INDEX, "--no-header", "--no-annotate"]
    command += [] if pins is None else ["--constraint", str(pins)]
    done = subprocess.run(command, cwd=ROOT, input=said, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 -- our own words
    return done.stdout


def blocks(text: str) -> Blocks:
    starts = [found.start() for found in PACKAGE.finditer(text)]
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
    return {part.partition("==")[0]: part for part in parts}


def cpu_build(torch: str) -> str:
    """The build of the same version that another index gives, by the hashes that ``other-wheels.txt`` has of it."""
    pinned = PACKAGE.match(torch)
    if pinned is None:
        raise SystemExit("torch is not in the resolution")
    local = f"torch-{pinned['version']}+cpu-"
    wheels = [line.split() for line in OTHER_WHEELS.read_text().splitlines() if not line.startswith("#")]
    hashes = [f"    --hash=sha256:{digest}" for digest, wheel in wheels if wheel.startswith(local)]
    if not hashes:
        raise SystemExit(f"{OTHER_WHEELS.name} names no wheel of {local[:-1]}")
    return " \\\n".join([f"{pinned.group()}+cpu", *hashes]) + "\n"


def write(name: str, found: Blocks) -> None:
    what = WHAT.get(name, f"the extra `{name}` needs besides")
    (HERE / f"{name}.txt").write_text(HEAD.format(what=what) + "".join(found.values()))


def constraints(found: Blocks) -> str:
    names = "\n".join(sorted(match.group() for match in PACKAGE.finditer("".join(found.values()))))
    head = "# Every dependency, also the indirect ones, as tested; written by `make lock`, which adds hashes in locks/.\n"
    return f"{head}# torch has a CPU build and CUDA builds of this one version.\n{names}\n"


if __name__ == "__main__":
    main()
