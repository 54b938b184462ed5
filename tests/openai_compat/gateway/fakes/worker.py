"""A worker without a model: the status protocol, and an answer that the request's body scripts.

Run with a Launch as JSON on standard input. ``spec.options`` script it: ``hello`` seconds before the greeting, ``load`` seconds
of loading, ``fail`` a message, ``crash`` to end while loading, ``log`` a file that gets a line at start and end, ``memory``
bytes to report. A request's body scripts the answer: ``chunks``, ``delay`` between them, ``status``, ``hold`` to answer only
when the file of that name exists, ``exhausted`` to have run out of memory, ``linger`` to work on after a disconnect until it
exists, ``silent`` for no Done. A form scripts nothing: the answer tells its hash and length.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import msgspec
import uvicorn

from openai_compat.protocol import (
    Begun,
    Done,
    Failed,
    Heartbeat,
    Hello,
    Launch,
    Memory,
    Progress,
    Ready,
    RelayFacts,
    Retiring,
    encode_status,
)

HEARTBEAT = 0.1


class Worker:
    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.options = launch.spec["options"]
        self.active: set[str] = set()
        self.log("start")
        time.sleep(self.options.get("hello", 0))
        self.line = socket.socket(socket.AF_UNIX)
        self.line.connect(launch.status_socket)
        self.say(Hello(launch.worker_id, launch.token, os.getpid()))
        threading.Thread(target=self.watch, daemon=True).start()

    def log(self, what: str) -> None:
        if path := self.options.get("log"):
            with open(path, "a") as file:
                file.write(f"{what} {self.launch.spec['id']} {os.getpid()} {self.launch.spec['device']} {time.monotonic()}\n")

    def say(self, message) -> None:
        try:
            self.line.sendall(encode_status(message))
        except OSError:
            self.end(3)

    def watch(self) -> None:
        with contextlib.suppress(OSError):
            while self.line.recv(100):
                pass
        self.end(3)

    def end(self, code: int) -> None:
        self.log("end")
        os._exit(code)

    @property
    def memory(self) -> Memory:
        return Memory(self.options.get("memory", 1))

    def run(self) -> None:
        self.say(Progress("loading", 1, 2))
        time.sleep(self.options.get("load", 0))
        if message := self.options.get("fail"):
            self.say(Failed(message))
            self.end(1)
        if self.options.get("crash"):
            self.end(7)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.launch.socket)
        os.chmod(self.launch.socket, 0o600)
        config = uvicorn.Config(self.app, interface="asgi3", lifespan="off", log_level="error")
        server = uvicorn.Server(config)
        signal.signal(signal.SIGTERM, lambda *_: self.end(0))
        server.capture_signals = contextlib.nullcontext
        asyncio.run(self.serve(server, listener))

    async def serve(self, server: uvicorn.Server, listener: socket.socket) -> None:
        serving = asyncio.ensure_future(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        self.say(Ready(self.memory, 0.0, ("generate_text",)))
        while not serving.done():
            await asyncio.sleep(HEARTBEAT)
            self.say(Heartbeat(self.memory, tuple(self.active)))

    async def app(self, scope, receive, send) -> None:
        pieces = []
        while True:
            message = await receive()
            pieces.append(message["body"])
            if not message["more_body"]:
                break
        body = b"".join(pieces)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        is_form = headers.get("content-type", "").startswith("multipart/")
        script = {"form": hashlib.sha256(body).hexdigest(), "length": len(body)} if is_form else json.loads(body)
        facts = RelayFacts.from_headers(headers)
        self.active.add(facts.request_id)
        self.say(Begun(facts.request_id))
        answer = asyncio.ensure_future(self.answer(script, scope, headers, facts, send))
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self.log("disconnected")
                answer.cancel()
                await self.gate(script.get("linger"))
        finally:
            gone.cancel()
            self.active.discard(facts.request_id)
            if not script.get("silent"):
                self.say(Done(facts.request_id, *script.get("usage", ())))

    async def gate(self, name: str | None) -> None:
        while name and not Path(name).exists():
            await asyncio.sleep(0.01)

    async def answer(self, script, scope, headers, facts: RelayFacts, send) -> None:
        if script.get("exhausted"):
            self.say(Retiring())
        await self.gate(script.get("hold"))
        if script.get("stream"):
            await send(start(200, b"text/event-stream; charset=utf-8"))
            for number in range(script.get("chunks", 3)):
                await send(part(b'data: {"n": %d}\n\n' % number))
                await asyncio.sleep(script.get("delay", 0))
                if number == script.get("hold_after"):
                    await self.gate(script.get("gate", "/nonexistent"))
            await send(part(b"data: [DONE]\n\n", more=False))
            return
        told = {"path": scope["path"], "headers": headers, "facts": msgspec.to_builtins(facts), "pid": os.getpid()}
        data = json.dumps({**told, "body": script}).encode()
        await send(start(script.get("status", 200), b"application/json", [(b"content-length", b"%d" % len(data))]))
        await send(part(data, more=False))


def start(status: int, media_type: bytes, more=()):
    headers = [(b"content-type", media_type), (b"x-answered-by", b"fake"), (b"x-oc-secret", b"1"), *more]
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(data: bytes, more: bool = True):
    return {"type": "http.response.body", "body": data, "more_body": more}


def run(launch: Launch) -> None:
    os.environ.update(launch.environment)
    Worker(launch).run()


if __name__ == "__main__":
    run(msgspec.json.decode(sys.stdin.buffer.read(), type=Launch))
