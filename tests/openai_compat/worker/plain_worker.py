"""Started by the tests as a process of its own: a worker with the plainest possible app in place of the product's."""

from __future__ import annotations

import sys

import msgspec
from litestar import Litestar, Request, Response, get, post

from handlers.types import TextRequest
from openai_compat.http.disconnect import answer
from openai_compat.http.errors import exception_handlers
from openai_compat.http.sse import sse
from openai_compat.protocol import Launch, RelayFacts
from openai_compat.worker.process import run


def create_app(runner, *, model_id, timing) -> Litestar:
    def submit(request: Request, text: bytes):
        facts = RelayFacts.from_headers(request.headers)
        prompt = TextRequest(prompts=(text.decode(),))
        return runner.submit("generate_text", prompt, request_id=facts.request_id, deadline=facts.deadline)

    @post("/whole", status_code=200)
    async def whole(request: Request) -> Response:
        result = await answer(request, submit(request, await request.body()))
        return Response({"model": model_id, "text": result.choices[0].text})

    @post("/stream", status_code=200)
    async def stream(request: Request) -> Response:
        job = submit(request, await request.body())

        async def events():
            async for batch in job.batches():
                yield b"".join(b"data: " + msgspec.json.encode(delta.text) + b"\n\n" for delta in batch)
            yield b"data: [DONE]\n\n"

        return await sse(events(), timing=timing)

    @get("/health/live")
    async def live() -> str:
        return "ok"

    return Litestar([whole, stream, live], exception_handlers=exception_handlers, openapi_config=None, logging_config=None)


if __name__ == "__main__":
    run(msgspec.json.decode(sys.stdin.buffer.read(), type=Launch), create_app=create_app)
