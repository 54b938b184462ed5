"""The terminal chat against a server that is faked at the HTTP client: what it sends, what it keeps, what it shows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import respx

from openai_compat.cli.chat import chat
from openai_compat.config import Config
from openai_compat.errors import Unavailable

URL = "http://models.test/v1"
MODELS = {"object": "list", "data": [{"id": "one", "object": "model", "created": 1, "owned_by": "x"}]}


def answered(*pieces: str) -> respx.MockResponse:
    body = "".join(f"data: {json.dumps(chunk(piece))}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    return respx.MockResponse(200, text=body, headers={"content-type": "text/event-stream"})


def chunk(text: str) -> dict:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "one", "choices": [choice]}


def refused(status: int, message: str) -> respx.MockResponse:
    return respx.MockResponse(status, json={"error": {"message": message, "type": "t", "param": None, "code": None}})


@pytest.fixture
def server(httpx2_mock: respx.Router) -> respx.Router:
    httpx2_mock.get(f"{URL}/models").respond(json=MODELS)
    return httpx2_mock


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Type these lines, and read what was shown."""

    def run(*lines: str, url: str = URL, model: str | None = None, system: str | None = None) -> str:
        typed: Iterator[str] = iter(lines)

        def ask(_: str) -> str:
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", ask)
        chat(Config(), None, model=model, url=url, system=system)
        return capsys.readouterr().out

    return run


def sent(route: respx.Route) -> list[list[tuple[str, str]]]:
    """The messages of each request, as pairs of role and content."""
    bodies = [json.loads(call.request.content) for call in route.calls]
    return [[(message["role"], message["content"]) for message in body["messages"]] for body in bodies]


def test_each_turn_sends_what_was_said_before(server, talk) -> None:
    route = server.post(f"{URL}/chat/completions").mock(side_effect=[answered("It ", "is."), answered("Yes.")])
    shown = talk("Is it?", "Sure?", system="Be brief.")
    opening = [("system", "Be brief."), ("user", "Is it?")]
    assert sent(route) == [opening, [*opening, ("assistant", "It is."), ("user", "Sure?")]]
    assert "It is.\n" in shown
    assert json.loads(route.calls[0].request.content)["model"] == "one"


def test_a_reset_keeps_the_system_prompt_and_nothing_else(server, talk) -> None:
    route = server.post(f"{URL}/chat/completions").mock(side_effect=[answered("1"), answered("2")])
    talk("first", "/reset", "second", system="S")
    assert sent(route)[1] == [("system", "S"), ("user", "second")]


def test_a_question_whose_answer_failed_is_not_sent_again(server, talk) -> None:
    route = server.post(f"{URL}/chat/completions").mock(side_effect=[refused(400, "too long"), answered("fine")])
    shown = talk("long", "short")
    assert "too long" in shown
    assert sent(route)[1] == [("user", "short")]


def test_a_loading_model_is_waited_for(server, talk) -> None:
    loading = refused(503, "still loading")
    loading.headers["retry-after-ms"] = "1"
    server.post(f"{URL}/chat/completions").mock(side_effect=[loading, loading, answered("here")])
    assert "here" in talk("hi")


def test_a_mistyped_command_is_not_sent_to_the_model(server, talk) -> None:
    route = server.post(f"{URL}/chat/completions").mock(side_effect=[answered("a file"), answered("a folder")])
    shown = talk("/quit", "/etc/passwd", "/usr is what?", "/exit")
    assert "There is no /quit. /reset begins anew" in shown
    assert [messages[-1] for messages in sent(route)] == [("user", "/etc/passwd"), ("user", "/usr is what?")]


def test_an_answer_cannot_steer_the_terminal(server, talk) -> None:
    server.post(f"{URL}/chat/completions").mock(return_value=answered("a\x1b]0;title\x07b\x9b2J\tc\nd é🎉\u200f"))
    assert "a]0;titleb2J\tc\nd é🎉\u200f\n" in talk("hi")


def test_what_is_no_text_is_sent_as_question_marks(server, talk) -> None:
    route = server.post(f"{URL}/chat/completions").mock(return_value=answered("ok"))
    talk("\udcff\udcfe é")
    assert sent(route) == [[("user", "?? é")]]


@pytest.mark.parametrize("url", ["http://models.test", "models.test", "models.test/v1/", "http://models.test/v1"])
def test_an_address_is_completed(server, talk, url) -> None:
    assert f"Talking to one at {URL}." in talk(url=url)


def test_a_server_that_refuses_is_named_with_its_reason(httpx2_mock, talk) -> None:
    httpx2_mock.get(f"{URL}/models").mock(return_value=refused(401, "no key"))
    with pytest.raises(Unavailable, match=r"http://models\.test/v1 did not list its models: .*no key"):
        talk()


def test_the_model_that_is_named_is_not_looked_up(httpx2_mock, talk) -> None:
    httpx2_mock.post(f"{URL}/chat/completions").mock(return_value=answered("ok"))
    assert "Talking to other at" in talk("hi", model="other")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_ends_the_server_that_the_chat_started(tmp_path: Path, number: signal.Signals) -> None:
    config = tmp_path / "config.toml"
    # Its certificate and its operators' address are the other server's, with which it shares the configuration.
    others = 'tls_cert = "/nowhere.pem"\ntls_key = "/nowhere.pem"\n[admin]\nlisten = "unix:/nowhere/admin.sock"\n'
    config.write_text(f'[server]\nport = 9\ninline = true\n{others}[models.echo]\nsource = ""\nkind = "echo"\n')
    command = [Path(sys.executable).with_name("openai-compat"), "chat", "--config", config]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as chatting:
        shown = ""
        while "Talking to" not in shown:
            shown = chatting.stdout.readline()
        address = shown.partition(" at ")[2].partition("/v1")[0]
        assert httpx2.get(f"{address}/health/live").status_code == 200
        chatting.send_signal(number)
        assert chatting.wait(60) == 128 + number
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{address}/health/live")
