"""A server of one script, right in all that the suite looks at, or wrong in many ways at once. Arguments: none, or `bad`."""

from __future__ import annotations

import base64
import json
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BAD = "bad" in sys.argv
WORDS = ["One", " fox", " ran", " along", " the", " old", " river", "."]
VECTOR = [0.5, -0.5, 0.5, 0.5]


def error(status: int, message: str, code: str | None = None, param: str | None = None) -> tuple[int, Any]:
    kind = "invalid_request_error"
    return status, {"error": {"message": message, "type": kind, "param": param, "code": code}}


def choice(asked: dict[str, Any], index: int) -> dict[str, Any]:
    words = WORDS[: asked.get("max_tokens", 16)]
    text, finish = "".join(words), "stop" if len(words) == len(WORDS) else "length"
    stop = asked.get("stop")
    if stop and not BAD and stop in text:
        text, finish = text[: text.index(stop)], "stop"
    message = {"role": "assistant", "content": text, "refusal": None}
    if "tool_choice" in asked and not BAD:
        call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
        message |= {"content": None, "tool_calls": [call]}
    tokens = [{"token": word, "logprob": -1.0, "bytes": None, "top_logprobs": []} for word in words]
    for token in tokens:
        token["top_logprobs"] = [{key: token[key] for key in ("token", "logprob", "bytes")}] * asked.get("top_logprobs", 0)
    logprobs = {"content": tokens, "refusal": None} if asked.get("logprobs") and not BAD else None
    return {"index": index, "message": message, "finish_reason": finish, "logprobs": logprobs}


def whole(asked: dict[str, Any]) -> dict[str, Any]:
    choices = [choice(asked, index) for index in range(1 if BAD else asked.get("n", 1))]
    used = {"prompt_tokens": 5, "completion_tokens": min(8, asked.get("max_tokens", 16)), "total_tokens": 0}
    used["total_tokens"] = used["prompt_tokens"] + used["completion_tokens"] + BAD
    found = {"id": f"chatcmpl-{time.monotonic_ns()}", "created": 1, "model": "m", "choices": choices, "usage": used}
    return found if BAD else {**found, "object": "chat.completion"}


def chunks(asked: dict[str, Any]) -> list[dict[str, Any]]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1.5 if BAD else 1, "model": "m"}
    piece = {"index": 0, "logprobs": None, "finish_reason": None}
    found = [{**head, "choices": [{**piece, "delta": {"content": word}}]} for word in WORDS]
    found[0]["choices"][0]["delta"]["role"] = "assistant"
    ends = [{**head, "choices": [{**piece, "delta": {}, "finish_reason": "stop"}]}] * (1 + BAD)
    if BAD:
        found[2] = {**found[2], "id": "chatcmpl-2"}
    if BAD or (asked.get("stream_options") or {}).get("include_usage"):
        used = {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
        return [*found, *ends, {**head, "choices": [], "usage": used}]
    return [*found, *ends]


class Script(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        model = {"id": "m", "object": "model", "created": 1.5 if BAD else 1, "owned_by": "nobody"}
        if self.path == "/v1/models":
            return self.answer(200, {"object": "list", "data": [model]})
        if self.path == "/v1/models/m":
            time.sleep(6 if BAD else 0)
            return self.answer(200, model)
        return self.answer(*error(404, "There is nothing here.", "model_not_found" if "/models/" in self.path else None))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            asked = json.loads(body)
        except ValueError:
            return self.answer(*((400, {"detail": "There was an error parsing the body"}) if BAD else error(400, "No JSON.")))
        if self.path == "/v1/embeddings":
            return self.answer(200, self.embedded(asked))
        if self.path != "/v1/chat/completions":
            return self.answer(*error(404, "There is nothing here."))
        if asked.get("model") != "m" and not BAD:
            return self.answer(*error(404, f"There is no model {asked.get('model')}.", "model_not_found"))
        if isinstance(asked.get("temperature", 1), str) or (asked.get("temperature", 1) > 2 and not BAD):
            return self.answer(*error(500 if BAD else 400, "Bad.", param="temperature"))
        return self.stream(chunks(asked)) if asked.get("stream") else self.answer(200, whole(asked))

    def embedded(self, asked: dict[str, Any]) -> dict[str, Any]:
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        packed = base64.b64encode(struct.pack("<4f", *VECTOR)).decode()
        vector: Any = packed if asked.get("encoding_format") == "base64" and not BAD else VECTOR
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))]
        return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}}

    def answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if not BAD:
            self.send_header("x-request-id", "req_1")
        self.end_headers()
        self.wfile.write(data)

    def stream(self, chunks: list[dict[str, Any]]) -> None:
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ([] if BAD else ["data: [DONE]\n\n"])
        data = "".join(events).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
print(server.server_port, flush=True)
server.serve_forever()
