"""Starts a server of the table, runs the suite against it, and stores the results in `docs/conformance/`.

    peers.py openai-compat .venv
    peers.py transformers ENVIRONMENT --weights FOLDER      (pip install "transformers[serving]" torch)
    peers.py llama.cpp ENVIRONMENT --weights FILE.gguf      (pip install xllamacpp)
    peers.py litellm ENVIRONMENT --behind .venv             (pip install "litellm[proxy]")
    peers.py portkey FOLDER --behind .venv                  (npm install @portkey-ai/gateway)

ENVIRONMENT is the peer's own, not one of the suite's. The weights are SmolLM2-135M-Instruct's, which this server fetches
itself. vLLM and SGLang need a GPU or hours of building: `make conformance BASE_URL=… NAME=vllm` checks one that runs elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
STORED = ROOT / "docs" / "conformance"
CHAT, VECTORS = "smollm2-135m-instruct", "all-minilm-l6-v2"
KEY = "sk-conformance-0123456789"
OURS = '[server]\ncors_origins = ["http://localhost:3000"]\n[auth]\nkeys = ["sha256:{hash}"]\n'
PATIENCE = 300.0
"""Seconds until a server must listen."""
OTHERS = (
    "--embedding-model",
    VECTORS,
    "--speech-model",
    "piper-joe",
    "--voice",
    "joe",
    "--transcription-model",
    "whisper-base",
)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """How one is started, and what the suite is told. ``words`` may name ``{port}`` and ``{folder}``."""

    order: int
    words: tuple[str, ...]
    told: tuple[str, ...]
    note: str
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


def ours(asked: argparse.Namespace) -> Peer:
    return Peer(
        order=0,
        words=(f"{asked.place}/bin/openai-compat", "serve", "--config", "{folder}/config.toml", "--port", "{port}"),
        told=("--model", CHAT, *OTHERS, "--image-model", "shapes", "--api-key", KEY),
        environ={"HF_HUB_OFFLINE": "1"},
        files={"config.toml": OURS.format(hash=sha256(KEY.encode()).hexdigest())},
        note="a key, one allowed origin, its default models: SmolLM2-135M Q4_1, MiniLM-L6, Piper, Whisper base, shapes",
    )


def transformers(asked: argparse.Namespace) -> Peer:
    flags = ("--continuous-batching", "--host", "127.0.0.1", "--port", "{port}", "--device", "cpu", "--dtype", "bfloat16")
    return Peer(
        order=2,
        words=(f"{asked.place}/bin/transformers", "serve", asked.weights.name, *flags),
        told=("--model", asked.weights.name),
        environ={"HF_HUB_OFFLINE": "1"},
        cwd=asked.weights.parent,
        note="`transformers serve FOLDER --continuous-batching --dtype bfloat16`, no embedding model",
    )


def llama_cpp(asked: argparse.Namespace) -> Peer:
    return Peer(
        order=1,
        words=(f"{asked.place}/bin/python", str(HERE / "llama_cpp.py"), str(asked.weights), "{port}"),
        told=("--model", "peer"),
        note="its own server, as xllamacpp has it: jinja, 4 slots of 8,192 tokens, the same GGUF file; no embedding model",
    )


def litellm(asked: argparse.Namespace) -> Peer:
    parameters = f'api_base: "{asked.upstream}", api_key: {KEY}'
    models = [
        f'  - {{ model_name: {name}, litellm_params: {{ model: "openai/{name}", {parameters} }} }}' for name in (CHAT, VECTORS)
    ]
    return Peer(
        order=3,
        words=(f"{asked.place}/bin/litellm", "--config", "{folder}/config.yaml", "--host", "127.0.0.1", "--port", "{port}"),
        told=("--model", CHAT, "--embedding-model", VECTORS, "--api-key", KEY),
        environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": f"{asked.place}/bin:{os.environ['PATH']}"},
        files={"config.yaml": "\n".join(["model_list:", *models]) + f"\ngeneral_settings: {{ master_key: {KEY} }}\n"},
        note="the proxy, in front of this server as an `openai/` model, with a master key",
    )


def portkey(asked: argparse.Namespace) -> Peer:
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": asked.upstream}
    told = [word for name, value in headers.items() for word in ("--header", f"{name}: {value}")]
    return Peer(
        order=4,
        words=("node", f"{asked.place}/node_modules/@portkey-ai/gateway/build/start-server.js", "--port={port}", "--headless"),
        told=("--model", CHAT, "--embedding-model", VECTORS, "--api-key", KEY, *told),
        environ={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"},
        note="the gateway, in front of this server as a custom host of the provider openai",
    )


PEERS = {"openai-compat": ours, "llama.cpp": llama_cpp, "transformers": transformers, "litellm": litellm, "portkey": portkey}
PACKAGES = {"llama.cpp": "xllamacpp"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("place", type=Path, help="its environment")
    parser.add_argument("--weights", type=Path, help="the model's files")
    parser.add_argument("--behind", type=Path, help="this server's environment, for a gateway before it")
    asked, more = parser.parse_known_args()
    asked.place = asked.place.absolute()
    asked.upstream = ""
    if asked.behind is None:
        return check(asked, more)
    with running(ours(argparse.Namespace(place=asked.behind.absolute()))) as asked.upstream:
        return check(asked, more)


def check(asked: argparse.Namespace, more: list[str]) -> int:
    peer = PEERS[asked.name](asked)
    STORED.mkdir(exist_ok=True)
    target = STORED / f"{asked.name}.json"
    with running(peer) as base_url:
        words = ["--base-url", base_url, "--name", asked.name, "--order", str(peer.order), "--note", peer.note]
        words += ["--version", version(asked), "--output", str(target), *peer.told, *more]
        return subprocess.run([sys.executable, HERE / "run.py", *words]).returncode


def version(asked: argparse.Namespace) -> str:
    if asked.name == "portkey":
        return str(json.loads((asked.place / "node_modules/@portkey-ai/gateway/package.json").read_text())["version"])
    package = PACKAGES.get(asked.name, asked.name)
    script = f"from importlib.metadata import version; print(version({package!r}))"
    command = [asked.place / "bin" / "python", "-c", script]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return f"{package} {found}" if package != asked.name else found


@contextmanager
def running(peer: Peer) -> Iterator[str]:
    """The base URL of a started server, which ends with the block."""
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        for name, text in peer.files.items():
            Path(folder, name).write_text(text)
        words = [word.replace("{port}", str(port)).replace("{folder}", folder) for word in peer.words]
        environ = {**os.environ, "OMP_NUM_THREADS": "1", **peer.environ}
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log, env=environ, cwd=peer.cwd or folder)
        try:
            listening(process, port, Path(folder, "log"))
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Waits until something answers, an error included."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
        except OSError as error:
            if hasattr(error, "code"):
                return
            time.sleep(0.5)
        else:
            return
    raise SystemExit(f"the server did not start:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
