"""OpenAI's and Anthropic's JavaScript SDKs: what `node/openai.mjs` and `node/anthropic.mjs` have seen."""

from __future__ import annotations

from math import isclose

from kit.checks import checks
from kit.node import Node
from kit.server import Server

check = checks("openai-node", needs=("chat",))
by_anthropic = checks("anthropic-node", needs=("messages",), promise="anthropic")


@check("node.whole", "A whole answer has a text, a finish_reason, usage and a request id.")
def check_whole(node: Node) -> None:
    seen = node.run("openai", "whole")
    assert seen["text"]
    assert seen["finish"] in {"stop", "length"}
    assert seen["usage"]["completion_tokens"] <= 16
    assert seen["requestID"], "no request id"


@check("node.stream", "A stream has a text, one finish_reason, and usage last, with no choices.")
def check_stream(node: Node) -> None:
    seen = node.run("openai", "stream")
    assert seen["text"]
    assert len(seen["finishes"]) == 1
    assert seen["usage"], "no usage"
    assert seen["lastChoices"] == []


@check("node.helper", "The SDK's stream() helper puts the answer together.")
def check_helper(node: Node) -> None:
    assert node.run("openai", "helper")["text"]


@check("node.run-tools", "runTools() calls the function with its arguments and goes on with what it gave.")
def check_run_tools(node: Node) -> None:
    seen = node.run("openai", "runTools")
    assert [set(args) for args in seen["called"][:1]] == [{"city"}]
    assert seen["roles"][:3] == ["user", "assistant", "tool"]


@check("node.error.model", "An unknown model is a NotFoundError with the code model_not_found.")
def check_unknown_model(node: Node) -> None:
    seen = node.run("openai", "unknownModel")
    assert seen, "no error at all"
    assert (seen["name"], seen["status"], seen["code"]) == ("NotFoundError", 404, "model_not_found")


@check("node.error.field", "A bad field is a BadRequestError whose message is the server's.")
def check_bad_field(node: Node) -> None:
    seen = node.run("openai", "badField")
    assert seen, "no error at all"
    assert (seen["name"], seen["status"]) == ("BadRequestError", 400)
    assert "no body" not in seen["message"], "the message is lost"
    assert "temperature" in seen["message"]


@check("node.error.path", "A path that does not exist is a NotFoundError whose message is the server's.")
def check_no_path(node: Node) -> None:
    seen = node.run("openai", "noPath")
    assert seen, "no error at all"
    assert seen["name"] == "NotFoundError"
    assert "no body" not in seen["message"], "the message is lost"


@check("node.left", "A client that leaves a stream frees the server for the next ones.")
def check_left(node: Node) -> None:
    assert node.run("openai", "aborted")["finish"]


@check("node.models", "The models can be listed, and the model asked for.", needs=("models",))
def check_models(node: Node, server: Server) -> None:
    seen = node.run("openai", "models")
    assert server.model in seen["ids"]
    assert seen["one"] == server.model


@check(
    "node.embeddings",
    "The SDK, which asks for base64 and always unpacks it, gets the numbers that `float` gives.",
    needs=("embeddings", "embedding-model"),
)
def check_embeddings(node: Node) -> None:
    seen = node.run("openai", "embeddings")
    assert len(seen["byDefault"]) == len(seen["asFloats"])
    assert all(isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(seen["byDefault"], seen["asFloats"], strict=True))


@check("node.responses", "A response has a text and a status.", needs=("responses",))
def check_responses(node: Node) -> None:
    seen = node.run("openai", "responses")
    assert seen["text"]
    assert seen["status"] in {"completed", "incomplete"}


@check("node.responses.stream", "The SDK's stream() helper puts a response together.", needs=("responses",))
def check_responses_stream(node: Node) -> None:
    seen = node.run("openai", "responsesStream")
    assert seen["first"] == "response.created"
    assert seen["last"] in {"response.completed", "response.incomplete"}
    assert seen["text"]


@by_anthropic("node.messages", "An answer is a message with a text block, a stop_reason and usage.")
def check_messages(node: Node) -> None:
    seen = node.run("anthropic", "whole")
    assert (seen["type"], seen["blocks"][-1]) == ("message", "text")
    assert seen["stop"] in {"end_turn", "max_tokens"}
    assert seen["usage"]["output_tokens"] > 0


@by_anthropic("node.messages.stream", "The SDK's stream() helper gives the text and the final message.")
def check_messages_stream(node: Node) -> None:
    seen = node.run("anthropic", "stream")
    assert seen["text"]
    assert seen["stop"]


@by_anthropic("node.messages.error", "An unknown model is a NotFoundError in Anthropic's shape.")
def check_messages_error(node: Node) -> None:
    seen = node.run("anthropic", "unknownModel")
    assert seen, "no error at all"
    assert (seen["name"], seen["status"], seen["type"]) == ("NotFoundError", 404, "not_found_error")
