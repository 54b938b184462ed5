"""Asks an advisory service about every package of the lock, and fails where one has a known weakness; `make audit` calls it.

    python locks/audit.py [--osv-url URL]

PyPI is asked, else OSV; with ``--osv-url`` only that one. Where none can be reached within seconds it says so and passes: what
was checked a day ago need not stop work without a network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
PATIENCE = 3.0
PYPI = "https://pypi.org/pypi/pip/26.3/json"  # a page of one version, as pip-audit asks for: mirrors lack those
OSV = "https://api.osv.dev/v1/query"
NOT_LOCKS = frozenset({"other-wheels", "torch-cpu"})  # the latter is torch.txt's version, built for another index


def main(words: list[str]) -> int:
    own = words[words.index("--osv-url") + 1] if "--osv-url" in words else None
    service = _service(own)
    if service is None:
        print("audit: no advisory service can be reached from here; the lock was not checked")  # noqa: T201
        return 0
    locks = [word for path in sorted(HERE.glob("*.txt")) if path.stem not in NOT_LOCKS for word in ("-r", str(path))]
    command = (sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--strict", "--progress-spinner", "off")
    return subprocess.run((*command, *service, *locks)).returncode  # noqa: S603 -- our own words


def _service(own: str | None) -> tuple[str, ...] | None:
    """What pip-audit is told of a service that answers as one."""
    if own is None and "vulnerabilities" in (_answer(Request(PYPI)) or ()):
        return ("--vulnerability-service", "pypi")
    url = own or OSV
    question = json.dumps({"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "26.3"}).encode()
    asked = Request(url, question, {"content-type": "application/json"})  # noqa: S310 -- ours, or the caller's own
    return ("--vulnerability-service", "osv", "--osv-url", url) if _answer(asked) is not None else None


def _answer(request: Request) -> dict[str, object] | None:
    """The JSON object that comes back; None where none does. A mirror of the index may know no advisories."""
    try:
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            value = json.load(answer)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
