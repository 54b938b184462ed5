"""What an engine is started with: its command and environment, filled in, and how it is spoken to then."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from msgspec import Struct

from handlers.types import ModelSpec
from openai_compat.config import Config, Model, Upstream, UpstreamModel
from openai_compat.gateway.engines.ports import HOST

KEY_VARIABLE = "OPENAI_COMPAT_ENGINE_KEY"
_PLACEHOLDER = re.compile(r"(?<!\{)\{(port|host|model|key|key_sha256)\}(?!\})")
# What programs need to run and to find libraries, devices and caches. No key of the gateway's is among it.
_KEPT = frozenset(
    {
        "CURL_CA_BUNDLE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME",
        "NO_PROXY", "OMP_NUM_THREADS", "PATH", "SHELL", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER",
        "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
    }
)  # fmt: skip
_KEPT_PREFIXES = ("CUDA_", "HIP_", "LC_", "NCCL_", "NVIDIA_", "ROCR_")
_DEFAULTS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONUNBUFFERED": "1"}
_CUDA = "cuda:"


class Recipe(Struct, frozen=True, kw_only=True):
    """How to start one engine. ``command`` has its program first."""

    model_id: str
    command: tuple[str, ...]
    environment: dict[str, str]
    port: int
    key: str


def write_recipe(spec: ModelSpec, model: Model, environment: Mapping[str, str], port: int, key: str) -> Recipe:
    """``environment`` is the gateway's own; ``spec`` has the device where the budget has room for it."""
    filled = {
        "port": str(port),
        "host": HOST,
        "model": model.engine.name or spec.id,
        "key": key,
        "key_sha256": hashlib.sha256(key.encode()).hexdigest(),
    }
    given = {**_DEFAULTS, **inherited(environment), **_devices(model, spec.device, environment), KEY_VARIABLE: key}
    own = {name: _fill(value, filled) for name, value in model.environment.items()}
    return Recipe(
        model_id=spec.id,
        command=tuple(_fill(part, filled) for part in model.command),
        environment={**given, **own},
        port=port,
        key=key,
    )


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What an engine gets of the gateway's environment."""
    return {name: value for name, value in environment.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}


def as_upstream(config: Config, model: Model, recipe: Recipe) -> Upstream:
    """It as an upstream: on loopback, with the key that it was given. It may think as long as a request may take."""
    engine, patience = model.engine, config.server.request_timeout
    entry = UpstreamModel(
        name=engine.name or recipe.model_id,
        capabilities=engine.capabilities,
        context_length=engine.context_length,
        price=model.price,
    )
    return Upstream(
        base_url=f"http://{HOST}:{recipe.port}{engine.base_path}",
        headers={"Authorization": f"Bearer {recipe.key}"},
        models={recipe.model_id: entry},
        first_byte_timeout=patience,
        idle_timeout=patience,
        max_in_flight=engine.max_in_flight,
    )


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Other braces stay as they are: commands may hold JSON."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _devices(model: Model, device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The one GPU that was found for it; none where the operator wants it on the processor."""
    if device.startswith(_CUDA):
        number = int(device.removeprefix(_CUDA))
        visible = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        return {"CUDA_VISIBLE_DEVICES": visible[number] if number < len(visible) else str(number)}
    return {"CUDA_VISIBLE_DEVICES": ""} if model.device == "cpu" else {}
