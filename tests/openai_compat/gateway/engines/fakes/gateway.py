"""A gateway with one engine that serves and one that starts, which says who it is and then waits to be killed.

Arguments: the engine's script, and its log.
"""

from __future__ import annotations

import asyncio
import sys

from openai_compat.config import Config, Model, Workers
from openai_compat.gateway.catalog import Catalog
from openai_compat.gateway.engines.launcher import EngineLauncher
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.supervisor import Supervisor


async def main() -> None:
    command = (sys.executable, sys.argv[1], "--port", "{port}", "--log", sys.argv[2], "--child", "--stubborn")
    models = {"a": Model(command=command), "slow": Model(command=(*command, "--slow", "60"))}
    config = Config(models=models, workers=Workers(fork_server=False))
    pool = Pool(config, Catalog(config), EngineLauncher(config, Supervisor(config)))
    await pool.start()
    await pool.acquire("a")
    loading = asyncio.ensure_future(pool.acquire("slow"))
    print("ready", flush=True)
    await loading


if __name__ == "__main__":
    asyncio.run(main())
