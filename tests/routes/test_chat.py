import asyncio
import json

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

DOT = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGPg5OQEAAA6ABztCJuOAAAAAElFTkSuQmCC"
PATH = "/v1/chat/completions"


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def test_a_chat_is_answered_whole(serve):
    async def scenario(worker):
        answer = await worker.post(PATH, messages=user("one two three"))
        assert answer.status_code == 200
        data = answer.json()
        ChatCompletion.model_validate(data, strict=True)
        assert data["model"] == "asked/for:this"
        assert data["id"].startswith("chatcmpl-")
        assert data["choices"][0]["message"]["content"] == "one two three"
        assert data["usage"]["completion_tokens"] == 3

    serve(scenario)


def test_a_stream_says_what_the_whole_answer_says(serve):
    async def scenario(worker):
        fields = {"messages": user("one two three four"), "max_tokens": 3, "n": 2, "logprobs": True, "top_logprobs": 2}
        whole = (await worker.post(PATH, **fields)).json()
        chunks = await worker.events(PATH, stream_options={"include_usage": True}, **fields)
        assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
        for chunk in chunks:
            ChatCompletionChunk.model_validate(chunk, strict=True)
        for choice in whole["choices"]:
            mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
            assert "".join(c["delta"].get("content", "") for c in mine) == choice["message"]["content"]
            assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]] == ["length"]
            tokens = [token for c in mine if c["logprobs"] for token in c["logprobs"]["content"]]
            assert tokens == choice["logprobs"]["content"]
        assert chunks[-1]["usage"] == whole["usage"]

    serve(scenario)


def test_two_answers_have_two_ids(serve):
    async def scenario(worker):
        answers = [(await worker.post(PATH, messages=user("a"))).json()["id"] for _ in range(2)]
        assert answers[0] != answers[1]

    serve(scenario)


def test_the_facts_of_the_gateway_reach_the_handler(serve):
    async def scenario(worker):
        await worker.post(PATH, messages=user("a"), mode="shout", mode_options={"language": "French"})
        (request,) = worker.handler.seen
        assert (request.mode, request.mode_options, request.cache_salt) == ("shout", {"language": "French"}, "salt")

    serve(scenario)


def test_a_picture_goes_to_the_multimodal_verb(serve):
    async def scenario(worker):
        parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": DOT}]
        answer = await worker.post(PATH, messages=[{"role": "user", "content": parts}])
        assert answer.status_code == 200
        picture = worker.handler.seen[0].messages[0].parts[1].picture
        assert (picture.width, picture.height, len(picture.pixels)) == (1, 1, 3)

    serve(scenario)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "invalid_value"),
        ({}, "messages", "missing_required_parameter"),
        ({"messages": user("a"), "web_search_options": {}}, "web_search_options", "unsupported_parameter"),
        ({"messages": user("a"), "mode": "nobody"}, "mode", "unsupported_mode"),
        ({"messages": user("a " * 2000)}, "messages", "context_length_exceeded"),
    ],
)
def test_what_cannot_be_answered_is_a_400_whole_and_streamed(serve, stream, fields, param, code):
    async def scenario(worker):
        answer = await worker.post(PATH, stream=stream, **fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
        assert error["type"] == "invalid_request_error"

    serve(scenario)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"])
def test_a_body_that_cannot_be_read_is_a_400(serve, body):
    async def scenario(worker):
        answer = await worker.client.post(PATH, content=body, headers=worker.headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")

    serve(scenario)


def test_the_content_type_does_not_matter(serve):
    async def scenario(worker):
        body = json.dumps({"model": "x", "messages": user("a")}).encode()
        answer = await worker.client.post(PATH, content=body, headers={**worker.headers, "content-type": "text/plain"})
        assert answer.status_code == 200

    serve(scenario)


def test_a_failure_after_the_first_token_is_an_event_and_no_end(serve):
    async def scenario(worker):
        answer = await worker.post(PATH, stream=True, messages=user("[[fail_after=2]] one two three"))
        *_, last = [frame for frame in answer.text.split("\n\n") if frame]
        assert answer.status_code == 200
        assert set(json.loads(last.removeprefix("data: "))["error"]) == {"message", "type", "param", "code"}
        assert "[DONE]" not in answer.text

    serve(scenario)


class Client:
    """A bare ASGI client that hears and leaves when the test says so."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._sent = False
        self.left = asyncio.Event()
        self.heard = asyncio.Event()

    async def receive(self) -> dict:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            self.heard.set()


def scope(headers: dict[str, str]) -> dict:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    common = {"scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "", "query_string": b""}
    path = {"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode(), "http_version": "1.1"}
    return {**common, **path, "headers": encoded, "asgi": {"version": "3.0"}, "extensions": {}, "state": {}}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_job(serve, stream):
    async def scenario(worker):
        body = {"model": "x", "stream": stream, "messages": user("[[tokens=100000]] [[delay=0.01]] word")}
        client = Client(json.dumps(body).encode())
        answering = asyncio.ensure_future(worker.app(scope(worker.headers), client.receive, client.send))
        if stream:
            await client.heard.wait()
        while not worker.handler.seen:
            await asyncio.sleep(0.01)
        client.left.set()
        await answering
        while worker.runner.active:
            await asyncio.sleep(0.01)

    serve(scenario)
