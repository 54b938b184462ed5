"""A gateway with one loaded model, which says where and who it is and then waits to be killed. Argument: fork or spawn."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import FORK_SERVER, MIB, WORKER, FakeCatalog

from openai_compat.config import Config, Model, Workers
from openai_compat.gateway.pool import Pool
from openai_compat.gateway.supervisor import Supervisor


async def main() -> None:
    models = {name: Model(source="fake", memory=MIB, options={"load": load}) for name, load in (("a", 0), ("slow", 60))}
    config = Config(models=models, workers=Workers(fork_server=sys.argv[1] == "fork"))
    supervisor = Supervisor(config, spawn_command=WORKER, fork_command=FORK_SERVER)
    pool = Pool(config, FakeCatalog(config), supervisor, limits={"host": 10 * MIB})
    await pool.start()
    (await pool.acquire("a")).abandon()
    loading = asyncio.ensure_future(pool.acquire("slow"))
    while len(supervisor._workers) < 2:
        await asyncio.sleep(0.01)
    pids = [worker.pid for worker in supervisor._workers]
    server = supervisor._fork_server
    print(json.dumps({"workers": pids, "server": server and server.pid, "folder": str(supervisor._directory.path)}), flush=True)
    await loading


if __name__ == "__main__":
    asyncio.run(main())
