"""The real fork server around the worker without a model. An argument names modules to preload."""

from __future__ import annotations

import sys
from pathlib import Path

from openai_compat.worker.forkserver import ForkServer, preload

sys.path.insert(0, str(Path(__file__).parent))
from worker import run

if __name__ == "__main__":
    ForkServer(run).serve(preload(["uvicorn", *sys.argv[1:]]))
