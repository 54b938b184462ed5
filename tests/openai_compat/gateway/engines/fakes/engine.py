"""A program that serves OpenAI HTTP, as an engine does, and misbehaves as its arguments say.

``--port``; ``--log`` a file that gets a line with its pid for each start; ``--sick`` to answer 503 for its health; ``--slow``
seconds before it listens; ``--crash`` to end before that; ``--stubborn`` to ignore SIGTERM; ``--child`` to start a process that
leaves the group, with its pid in the log. A chat whose first message is ``die`` kills it, ``slow`` streams for a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--log")
parser.add_argument("--slow", type=float, default=0)
for flag in ("sick", "crash", "stubborn", "child"):
    parser.add_argument(f"--{flag}", action="store_true")
args = parser.parse_args()
KEY = os.environ["OPENAI_COMPAT_ENGINE_KEY"]


def log(*words: object) -> None:
    if args.log:
        with open(args.log, "a") as file:
            file.write(" ".join(map(str, words)) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers["authorization"] != f"Bearer {KEY}":
            self.answer(401, {})
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": "/its/own/path"}]})
        else:
            self.answer(503 if args.sick else 200, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = body["messages"][0]["content"]
        if self.headers["authorization"] != f"Bearer {KEY}":
            return self.answer(401, {"error": {"message": "no"}})
        if said == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if body.get("stream"):
            return self.stream(said, body["model"])
        seen = {"body": body, "path": self.path, "environment": dict(os.environ)}
        message = {"role": "assistant", "content": json.dumps(seen)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        return self.answer(200, {**answer, "usage": usage})

    def stream(self, said: str, model: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            for number in range(600 if said == "slow" else 3):
                delta = {"role": "assistant", "content": f"{number} "}
                event = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": model}
                event["choices"] = [{"index": 0, "delta": delta, "finish_reason": None}]
                self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
                self.wfile.flush()
                if said == "slow":
                    time.sleep(0.1)
            event["choices"] = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\ndata: [DONE]\n\n")
        except OSError:
            log("left")
        self.close_connection = True

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *words: object) -> None:
        print(format % words)


if args.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if args.child:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    log("child", child.pid)
log("start", os.getpid())
print("the key is", KEY, "and this is what it said last")
if args.crash:
    sys.exit(7)
time.sleep(args.slow)
ThreadingHTTPServer((args.host, args.port), Handler).serve_forever()
