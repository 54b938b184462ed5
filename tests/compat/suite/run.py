"""Checks a server that speaks OpenAI's API with the clients that people use, and writes what was found as JSON and as a table.

    python tests/compat/suite/run.py --base-url http://127.0.0.1:8000/v1 [--model M] [--api-key K] [--name NAME] …

Nothing of this project is imported: the server may be any. The first run makes environments in `.conformance/`, some minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import environments
import page
from kit.results import joined, merged, read
from kit.server import MODELS, PREFIX

HERE = Path(__file__).parent
TOOLS = frozenset({"jsonschema", "mcp", "pytest", "httpx"})
"""What the environments hold besides the clients."""
LOADING = 300.0
"""Seconds until a server must have loaded its model."""
_NO_ENTRY = (401, 403)
RUNS = {"current": ("checks", "ecosystem/current"), "held": ("ecosystem/held",)}
PATIENCE = 540.0
"""Seconds that all checks of an environment may take unless more are given; what has not ended then has failed."""


def main() -> int:
    asked = parsed()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    told = {"base_url": asked.base_url.rstrip("/"), "api_key": asked.api_key, "headers": "\n".join(asked.header)}
    told |= {name: getattr(asked, name) or "" for name in MODELS}
    reach(told, asked.model)
    began = time.monotonic()
    lines = [line for name in asked.environment for line in run(name, told, folder, asked)]
    found = {**about(asked, told), "seconds": round(time.monotonic() - began), **clients(lines, folder), **merged(lines)}
    output = asked.output or folder / "results" / f"{asked.name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    if asked.add and output.exists():
        found = joined(json.loads(output.read_text()), found)
    output.write_text(json.dumps(found, indent=1) + "\n")
    print(page.summary(found))
    print(f"written: {output}")
    return page.counted(found)["fail"] > 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True, help="where the API is, with its /v1")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--name", default="server", help="what the table calls the server")
    parser.add_argument("--version", default="", help="the server's version, for the table")
    parser.add_argument("--note", default="", help="what readers of the table should know: how it was started")
    parser.add_argument("--order", type=int, default=9, help="its place in the table")
    parser.add_argument("--header", action="append", default=[], help="`name: value`, sent with every request")
    for name in MODELS:
        parser.add_argument(f"--{name.replace('_', '-')}", help="the first of /models" if name == "model" else None)
    parser.add_argument("--output", type=Path, help="where the results go, as JSON")
    parser.add_argument("--folder", type=Path, default=environments.ROOT / ".conformance", help="where environments are kept")
    parser.add_argument("--environment", action="append", choices=sorted(RUNS), help="only this one's checks")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for all checks of an environment")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for one check: more on a machine that has other things to do"
    )
    parser.add_argument("--add", action="store_true", help="keep what is stored of the checks that are not made now")
    parser.add_argument("--select", default="", help="only checks whose name matches, as pytest's -k")
    asked = parser.parse_args()
    asked.environment = asked.environment or sorted(RUNS)
    return asked


def reach(told: dict[str, str], model: str | None) -> None:
    """Finds the model and has it loaded. Ends the run where nobody answers, or not as such a server does."""
    try:
        told["model"] = model or first_model(told)
        warm(told)
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise SystemExit(
            f"There is no server of OpenAI's API at '{told['base_url']}' that lets us in ({found}). What is needed is "
            "BASE_URL=http://host:port/v1 with API_KEY=… where it asks for a key, and MODEL=… where it lists no models."
        ) from None


def warm(told: dict[str, str]) -> None:
    """Lets the server load its model: how long that takes is nothing that is checked.

    Raises ``HTTPError`` where a key is missing.
    """
    given = dict(line.partition(":")[::2] for line in told["headers"].splitlines())
    headers = {"content-type": "application/json", "authorization": f"Bearer {told['api_key']}", **given}
    body = {"model": told["model"], "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    request = Request(told["base_url"] + "/chat/completions", json.dumps(body).encode(), headers)
    deadline = time.monotonic() + LOADING
    while time.monotonic() < deadline:
        try:
            return urlopen(request, timeout=LOADING).close()
        except TimeoutError:
            return None
        except HTTPError as error:
            if error.code in _NO_ENTRY:
                raise
            if error.code != 503:
                return None
            time.sleep(1)
    return None


def first_model(told: dict[str, str]) -> str:
    headers = {"authorization": f"Bearer {told['api_key']}"}
    with urlopen(Request(told["base_url"] + "/models", headers=headers), timeout=30) as answer:
        return str(json.load(answer)["data"][0]["id"])


def run(name: str, told: dict[str, str], folder: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """The results of the checks of one environment."""
    python, node = environments.python(name, folder), environments.node(folder)
    results = folder / f"{asked.name}-{name}.jsonl"
    results.unlink(missing_ok=True)
    settings = {PREFIX + key.upper(): value for key, value in told.items()}
    settings |= {PREFIX + "RESULTS": str(results), PREFIX + "NODE": str(node or ""), PREFIX + "SECONDS": str(asked.seconds)}
    command = [python, "-m", "pytest", "-p", "kit.plugin", "-q", "--tb=line", *(["-k", asked.select] if asked.select else ())]
    here = [place for place in RUNS[name] if any((HERE / place).rglob("check_*.py"))]
    if not here:
        return []
    try:
        subprocess.run([*command, *here], cwd=HERE, env=environments.environ(**settings), timeout=asked.patience)
    except subprocess.TimeoutExpired:
        print(f"the checks of {name} did not end in {asked.patience:g} s", file=sys.stderr)
    lines = read(results)
    if not lines:
        raise SystemExit(f"the checks of {name} did not begin")
    return [*lines, {"kind": "packages", "of": name, "versions": versions(python)}]


def versions(python: Path) -> dict[str, str]:
    """What is installed there, by name."""
    told = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True)
    return {package["name"]: package["version"] for package in json.loads(told.stdout)}


def clients(lines: list[dict[str, Any]], folder: Path) -> dict[str, list[str]]:
    """What the checks were made with: each client that an environment was asked for, by name and version."""
    found = set()
    for line in lines:
        if line["kind"] == "packages":
            asked = (environments.LOCKS / f"{line['of']}.in").read_text()
            names = {match.group() for match in re.finditer(r"^[a-z][a-z0-9-]*", asked, re.MULTILINE)} - TOOLS | {"openai"}
            found |= {f"{name} {version}" for name, version in line["versions"].items() if name in names}
    wanted = json.loads((environments.NODE / "package.json").read_text())["dependencies"]
    javascript = [f"{name} {version}" for name, version in sorted(wanted.items())] if environments.node(folder) else []
    return {"clients": sorted(found), "javascript": javascript}


def about(asked: argparse.Namespace, told: dict[str, str]) -> dict[str, Any]:
    return {
        "server": asked.name,
        "order": asked.order,
        "version": asked.version,
        "note": asked.note,
        "model": told["model"],
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
