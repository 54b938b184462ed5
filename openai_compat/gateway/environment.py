"""The environment of the processes that the gateway starts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from openai_compat.allocator import allocator_settings

# They read local files only and talk to nobody but the gateway: its keys, those for hubs and clouds, and the way
# out through a proxy (often with a password in it) are no use to them.
_SECRET = re.compile(
    r"TOKEN(_|$)|SECRET|PASSWORD|PASSWD|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY|AUTH__|^PIP_|_PROXY$", re.IGNORECASE
)
_DEFAULTS = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
}
_FIXED = {"PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What every worker, the fork server and the reader of foreign handlers' facts get; what the operator set stays.

    A model that does need a secret gets it by its own ``environment``.
    """
    kept = {name: value for name, value in environment.items() if not _SECRET.search(name)}
    return {**_DEFAULTS, **kept, **allocator_settings(kept), **_FIXED}
