"""The environments that the checks run in, made where `.conformance/` lies from the lock files when first needed.

``current`` holds clients as they are now; ``held`` those that hold back what others need (`openai<3`). ``node`` holds those of
JavaScript. Every file is checked by the hash that its lock names. An environment is made anew when its lock changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LOCKS = ROOT / "locks" / "conformance"
NODE = HERE / "node"
MADE = ".made"


def python(name: str, folder: Path) -> Path:
    """The Python of the environment ``name``."""
    lock = LOCKS / f"{name}.txt"
    place = folder / f"{name}-{_digest(lock)}"
    found = place / "bin" / "python"
    if not (place / MADE).exists():
        print(f"making the environment {name} in {place}", flush=True)
        _renew(folder, name)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [found, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", lock], check=True)
        (place / MADE).touch()
    return found


def node(folder: Path) -> Path | None:
    """The folder of the JavaScript SDKs; None where there is no node."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return None
    place = folder / f"node-{_digest(NODE / 'package-lock.json')}"
    if not (place / MADE).exists():
        print(f"making the environment node in {place}", flush=True)
        _renew(folder, "node")
        place.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(NODE / name, place)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
        (place / MADE).touch()
    for module in NODE.glob("*.mjs"):
        shutil.copy(module, place)
    return place


def environ(**told: str) -> dict[str, str]:
    """What a run of the checks sees: the suite, what it is told, and no settings of the caller's SDKs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_", "CONFORMANCE_"))}
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_AGENTS_DISABLE_TRACING": "1", "LANGCHAIN_TRACING_V2": "false"}
    return {**kept, **quiet, "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1", "NO_PROXY": "127.0.0.1,localhost", **told}


def _digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:12]


def _renew(folder: Path, name: str) -> None:
    """Takes away what an earlier lock made."""
    for old in folder.glob(f"{name}-*"):
        shutil.rmtree(old)
