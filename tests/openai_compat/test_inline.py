"""Models inside the gateway's own process."""

from __future__ import annotations

import asyncio
import gc
import weakref

from handlers.types import ModelSpec
from openai_compat.http.sse import StreamTiming
from openai_compat.inline import InlineLauncher


def test_nothing_holds_a_model_that_was_stopped() -> None:
    async def scenario() -> None:
        launcher = InlineLauncher(StreamTiming())
        for end in ("stop", "kill"):
            worker = await launcher.launch("m", ModelSpec(id="m", path="", kind="echo"), {}, lambda status: None)
            await worker.ready()
            model = weakref.ref(worker._handler)
            if end == "stop":
                await worker.stop(1)
            worker.kill()
            await worker.gone.wait()
            del worker
            await asyncio.sleep(0)
            gc.collect()
            assert model() is None
        await launcher.close()

    asyncio.run(scenario())
