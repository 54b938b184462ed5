"""Fuzzes each reader of strangers' bytes for some seconds, led by coverage; `make fuzz` calls it.

    python tests/fuzz/run.py [--seconds 60] [--only NAME] [--no-api]

What atheris finds is kept under .fuzz/, so the next run goes on from there; a crash is written to tests/fuzz/corpus/<name>/,
where the normal tests replay it.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
FOUND = HERE.parent.parent / ".fuzz"
READERS = sorted(path.stem for path in (HERE / "readers").glob("*.py"))
API_SHARE = 4  # times as long as a reader gets, for clients and operators each
LONGEST_INPUT, LONGEST_RUN, MOST_MEMORY = 4096, 5, 2048  # bytes, seconds, MiB


def main() -> int:
    arguments = parser().parse_args()
    if arguments.inside:
        fuzz(arguments.inside, arguments.seconds)
    names = [arguments.only] if arguments.only else READERS
    failed = [name for name in names if run("--inside", name, "--seconds", str(arguments.seconds))]
    if not arguments.only and not arguments.no_api:
        limit = ["--max-time", str(API_SHARE * arguments.seconds)]
        failed += ["the API"] if subprocess.run([sys.executable, HERE / "api.py", *limit]).returncode else []
    print(f"failed: {', '.join(failed)}" if failed else f"{len(names)} readers held")
    return bool(failed)


def parser() -> argparse.ArgumentParser:
    taken = argparse.ArgumentParser()
    taken.add_argument("--seconds", type=int, default=60)
    taken.add_argument("--only", choices=READERS)
    taken.add_argument("--no-api", action="store_true")
    taken.add_argument("--inside", choices=READERS, help=argparse.SUPPRESS)
    return taken


def run(*words: str) -> int:
    """One reader in a process of its own: the fuzzer ends its process in its own way."""
    return subprocess.run([sys.executable, __file__, *words]).returncode


def fuzz(name: str, seconds: int) -> None:
    import atheris

    found, corpus = FOUND / name, HERE / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["openai_compat", "handlers", "schemas", "routes", "multipart"]):
        target = load(name)
    flags = [f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}", f"-timeout={LONGEST_RUN}"]
    flags += [f"-rss_limit_mb={MOST_MEMORY}", f"-artifact_prefix={corpus}/", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([name, *flags, str(found), str(corpus)], target)
    atheris.Fuzz()


def load(name: str) -> Callable[[bytes], None]:
    spec = importlib.util.spec_from_file_location(name, HERE / "readers" / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target: Callable[[bytes], None] = module.fuzz
    return target


if __name__ == "__main__":
    sys.exit(main())
