import pytest
from openai.types import Completion

PATH = "/v1/completions"


@pytest.mark.parametrize(("prompt", "texts"), [("one two", ["one two"]), (["one", "two three"], ["one", "two three"])])
def test_prompts_are_continued_each_in_its_choice(serve, prompt, texts):
    async def scenario(worker):
        data = (await worker.post(PATH, prompt=prompt)).json()
        Completion.model_validate(data, strict=True)
        assert data["id"].startswith("cmpl-")
        assert [choice["text"] for choice in data["choices"]] == texts
        assert [choice["index"] for choice in data["choices"]] == list(range(len(texts)))

    serve(scenario)


def test_a_stream_says_what_the_whole_answer_says(serve):
    async def scenario(worker):
        fields = {"prompt": ["one two three", "four"], "max_tokens": 2, "n": 2, "logprobs": 1}
        whole = (await worker.post(PATH, **fields)).json()
        events = await worker.events(PATH, stream_options={"include_usage": True}, **fields)
        for choice in whole["choices"]:
            mine = [c for event in events for c in event["choices"] if c["index"] == choice["index"]]
            assert "".join(c["text"] for c in mine) == choice["text"]
            assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice["finish_reason"]]
            assert [token for c in mine if c["logprobs"] for token in c["logprobs"]["tokens"]] == choice["logprobs"]["tokens"]
        assert events[-1]["usage"] == whole["usage"]
        assert events[-1]["choices"] == []

    serve(scenario)


def test_token_ids_and_echo_reach_the_handler(serve):
    async def scenario(worker):
        await worker.post(PATH, prompt=[[1, 2], [3]], echo=True)
        (request,) = worker.handler.seen
        assert (request.prompts, request.echo, request.messages) == (((1, 2), (3,)), True, None)

    serve(scenario)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({}, "prompt"), ({"prompt": "a", "suffix": "b"}, "suffix"), ({"prompt": "a", "logprobs": 6}, "logprobs")],
)
def test_what_cannot_be_answered_is_a_400_that_names_the_field(serve, fields, param):
    async def scenario(worker):
        answer = await worker.post(PATH, **fields)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)

    serve(scenario)
