"""How much memory this machine has, for each device, found without any machine-learning library.

Devices are ``host`` and ``cuda:0`` …; ``cpu`` and ``mps`` live in host memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from openai_compat.config import MemoryBudget
from openai_compat.sizes import parse_size

logger = logging.getLogger(__name__)
HOST = "host"
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_QUERY = ("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
_QUERY_TIMEOUT = 10.0


def account_of(device: str) -> str:
    """The device whose memory a model on ``device`` takes."""
    return device if device.startswith("cuda") else HOST


def has_mps() -> bool:
    return sys.platform == "darwin"


def host_memory() -> int:
    """Bytes of host memory that this process may use: the machine's, or its container's limit."""
    limits: list[int] = [psutil.virtual_memory().total]
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


async def gpu_memory() -> dict[str, int]:
    """Bytes of each visible GPU by ``cuda:N``; empty where there is none or the driver's tool does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    process = await asyncio.create_subprocess_exec(
        tool, *_QUERY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(_QUERY_TIMEOUT):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        logger.warning("nvidia-smi did not answer; no GPU is used")
        return {}
    return parse_gpus(output.decode(errors="replace"), os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(output: str, visible: str | None = None) -> dict[str, int]:
    """Read ``index, uuid, MiB`` lines; ``visible`` is CUDA_VISIBLE_DEVICES, which renumbers the GPUs."""
    found: list[tuple[str, str, int]] = []
    for line in output.splitlines():
        index, uuid, size = ([part.strip() for part in line.split(",")] + ["", "", ""])[:3]
        if index.isdigit() and size.isdigit():
            found.append((index, uuid, int(size) * 1024**2))
    if visible is not None:
        wanted = [name.strip() for name in visible.split(",") if name.strip()]
        found = [gpu for name in wanted for gpu in found if name == gpu[0] or (gpu[1] and gpu[1].startswith(name))]
    return {f"cuda:{number}": gpu[2] for number, gpu in enumerate(found)}


def limits_of(budget: MemoryBudget, host: int, gpus: Mapping[str, int]) -> dict[str, int]:
    """Bytes that all models together may take on each device. Raises ``ValueError`` for a size that is none."""
    limits = {HOST: parse_size(budget.host, host)}
    for name, total in gpus.items():
        limits[name] = parse_size(budget.devices.get(name, budget.device), total)
    return limits


async def measure_limits(budget: MemoryBudget) -> dict[str, int]:
    """The limits on this machine."""
    return limits_of(budget, host_memory(), await gpu_memory())
