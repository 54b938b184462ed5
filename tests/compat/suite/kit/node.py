"""Scenarios of the JavaScript SDKs: each is a function of a module in `node/`, run by a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kit.server import SECONDS, Server


class Node:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._folder = os.environ.get("CONFORMANCE_NODE", "")

    def run(self, module: str, scenario: str, **options: Any) -> Any:
        """What the function ``scenario`` of ``node/<module>.mjs`` returned, given ``{baseURL, apiKey, model, …options}``."""
        if not self._folder:
            pytest.skip("absent: no node, or its packages could not be fetched")
        told = {
            "baseURL": self._server.base_url,
            "origin": self._server.origin,
            "apiKey": self._server.api_key,
            "model": self._server.model,
            "embeddingModel": self._server.embedding_model,
            "transcriptionModel": self._server.transcription_model,
            "imageModel": self._server.image_model,
            **options,
        }
        command = ["node", "run.mjs", f"./{module}.mjs", scenario, json.dumps(told)]
        try:
            done = subprocess.run(command, cwd=Path(self._folder), capture_output=True, timeout=SECONDS, text=True)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{module}.{scenario}: no end within {SECONDS:g} s") from None
        if done.returncode:
            raise AssertionError(f"{module}.{scenario}: {done.stderr.strip()[-400:]}")
        return json.loads(done.stdout)
