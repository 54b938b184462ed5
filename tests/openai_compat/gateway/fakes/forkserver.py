"""The real fork server around the worker without a model. An argument names modules to preload."""

from __future__ import annotations

import sys
from pathlib import Path

from openai_compat.worker.forkserver import main

sys.path.insert(0, str(Path(__file__).parent))
from worker import run

if __name__ == "__main__":
    main(run, ["uvicorn", *sys.argv[1:]])
