"""Upstreams are asked which models they have, through the openai SDK and real sockets; the gateway waits for none of it."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from openai_compat.config import Config, Upstream
from openai_compat.gateway.discovery import Discovery
from openai_compat.gateway.listing import MAX_MODELS, Listed, ListingFailed, list_models, models_of

KEY = "sk-very-secret"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """A server on a free port whose every path is answered by ``handler``."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield Upstream(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1", discover=True)
    finally:
        await runner.cleanup()


def asked(handler: Handler, **settings: Any) -> Any:
    """What is known of the upstream after it was asked once."""

    async def ask() -> Any:
        async with serving(handler) as upstream:
            return await list_models("up", replace(upstream, **settings))

    return asyncio.run(ask())


def page(*entries: Any) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": entries})

    return answer


# ---------------------------------------------------------------- one question


def test_the_list_is_read_with_all_that_servers_say_of_their_models() -> None:
    ours = {"capabilities": ["generate_text", "Not One", 3], "modes": ["creative"], "context_length": 4096}
    entries = (
        {"id": "plain", "object": "model", "created": 5, "owned_by": "x"},
        {"id": "ours", "created": 6, **ours},
        {"id": "vllm", "created": 1.0, "max_model_len": 8192},
        {"id": "groq", "created": None, "context_window": 131072, "context_length": "many"},
        {"id": ""}, {"id": 3}, "text", {"id": "x" * 300}, {"id": "a\nb"}, {"name": "by-name"},
    )  # fmt: skip
    assert asked(page(*entries)) == {
        "plain": Listed(created=5),
        "ours": Listed(created=6, capabilities=("generate_text",), modes=("creative",), context_length=4096),
        "vllm": Listed(created=1, context_length=8192),
        "groq": Listed(context_length=131072),
        "by-name": Listed(),
    }


def test_the_question_carries_what_is_configured_and_nothing_of_the_environment(monkeypatch, tmp_path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/environment")
    (tmp_path / "key").write_text(KEY + "\n")
    seen: list[tuple[str, Mapping[str, str]]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append((request.path_qs, request.headers))
        return web.json_response({"data": []})

    settings = {
        "api_key_file": str(tmp_path / "key"),
        "organization": "org-1",
        "headers": {"X-Team": "blue"},
        "query": {"api-version": "2026-01-01"},
    }
    assert asked(note, **settings) == {}
    assert asked(note, **settings, api_key_header="Api-Key") == {}
    assert asked(note) == {}
    (path, bearer), (_, own), (_, without) = seen
    assert path == "/api/v1/models?api-version=2026-01-01"
    assert (bearer["Authorization"], bearer["X-Team"], bearer["OpenAI-Organization"]) == (f"Bearer {KEY}", "blue", "org-1")
    assert own["Api-Key"] == KEY
    assert "Authorization" not in own
    assert "Authorization" not in without
    assert "environment" not in str(seen)
    assert "OpenAI-Project" not in bearer


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1", b'{"data": "x"}', b"{}", b"3", b"[" * 200_000, b'{"error": {}}', b'{"data": "\xff"}']
)
def test_what_is_no_list_is_none(body) -> None:
    with pytest.raises(ListingFailed, match="its answer is no"):
        models_of(body)


@pytest.mark.parametrize(
    "body", [[{"id": "a"}], {"models": [{"name": "a"}]}, {"data": [{"id": "a"}], "models": [{"name": "b"}]}]
)
def test_lists_of_other_shapes_are_read(body) -> None:
    assert models_of(json.dumps(body).encode()) == {"a": Listed()}


def test_a_list_has_an_end() -> None:
    entries = [{"id": f"m{number}"} for number in range(MAX_MODELS + 5)]
    assert len(models_of(json.dumps(entries).encode())) == MAX_MODELS


async def refuse(request: web.Request) -> web.Response:
    return web.json_response({"error": {"message": f"Incorrect API key: {request.headers.get('Authorization')}"}}, status=401)


async def redirect(request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("http://127.0.0.1:9/elsewhere")


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    piece = b" " * (1 << 20)
    for _ in range(20):
        await answer.write(piece)
    return answer


async def silent(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    raise AssertionError


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (refuse, "it answered with status 401"),
        (redirect, "it answered with status 307"),
        (endless, "its answer is too large"),
        (silent, "it did not answer in time"),
    ],
)
def test_a_failure_is_told_without_address_or_key(handler, says, monkeypatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)
    with pytest.raises(ListingFailed) as caught:
        asked(handler, api_key_env="LAB_KEY", first_byte_timeout=0.3)
    assert says in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_nobody_there_no_key_and_no_certificates_are_told(tmp_path) -> None:
    def told(**settings: Any) -> str:
        with pytest.raises(ListingFailed) as caught:
            asyncio.run(list_models("up", Upstream(base_url="http://127.0.0.1:1/v1", **settings)))
        return str(caught.value)

    assert told() == "it could not be reached"
    assert told(api_key_env="NO_SUCH_VARIABLE") == "the environment variable with its key is not set"
    assert told(ca_file=str(tmp_path / "nothing.pem")) == "the certificates of its ca_file cannot be read"


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory) -> ssl.SSLContext:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key", "-out", "crt")
    command = ("openssl", "req", "-x509", *new, "-subj", "/CN=server", "-days", "2")
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "crt", folder / "key")
    return context


@pytest.mark.parametrize(
    ("tls", "says"), [(True, "its certificate is not trusted: self-signed certificate"), (False, "no TLS")]
)
def test_what_is_wrong_with_its_tls_is_told(self_signed, tls, says) -> None:
    async def scenario() -> None:
        async with serving(refuse, tls=self_signed if tls else None) as upstream:
            await list_models("up", replace(upstream, base_url=upstream.base_url.replace("http:", "https:")))

    with pytest.raises(ListingFailed, match=f"^{says}"):
        asyncio.run(scenario())


def test_a_host_without_an_address_is_told(monkeypatch) -> None:
    def nowhere(*question: Any, **more: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(ListingFailed, match=r"^its host's name has no address$"):
        asyncio.run(list_models("up", Upstream(base_url="http://nowhere.invalid/v1")))


# ---------------------------------------------------------------- again and again


class Answers:
    """Answers of an upstream, one after the other; the last one again."""

    def __init__(self, *answers: dict[str, Listed] | str) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, name: str, upstream: Upstream) -> dict[str, Listed]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            raise ListingFailed(answer)
        return answer


def discovery(answers: Any) -> Discovery:
    upstreams = {
        "up": Upstream(base_url="http://127.0.0.1:1/v1", discover=True),
        "not": Upstream(base_url="http://127.0.0.1:1"),
    }
    return Discovery(Config(upstreams=upstreams), answers, every=0.01, after=0.01)


@asynccontextmanager
async def running(answers: Any) -> AsyncIterator[Discovery]:
    found = discovery(answers)
    await found.start()
    try:
        async with asyncio.timeout(20):
            yield found
    finally:
        await found.close()


def test_a_failure_keeps_the_old_list_and_later_ones_replace_it(caplog) -> None:
    one, two = {"a": Listed()}, {"b": Listed()}

    async def scenario() -> list[Any]:
        seen: list[Any] = []
        answers = Answers("it is asleep", "it is asleep", one, one, "it is asleep", "it is broken", two)
        async with running(answers) as found:
            seen.append((found.listed("up"), found.awaited("up"), found.version))
            while not seen or seen[-1][0] != two:
                await asyncio.sleep(0.001)
                now = (found.listed("up"), found.awaited("up"), found.version)
                if now != seen[-1]:
                    seen.append(now)
            assert not found.awaited("not")
            assert found.listed("not") is None
        return seen

    with caplog.at_level(logging.WARNING):
        seen = asyncio.run(scenario())
    assert seen == [(None, True, 0), (None, False, 1), (one, False, 2), (two, False, 3)]
    assert [record.getMessage() for record in caplog.records] == [
        f"the models of the upstream 'up' are not known: it is {state}" for state in ("asleep", "asleep", "broken")
    ]


def test_what_nobody_foresaw_is_no_end_of_the_questions(caplog) -> None:
    class Surprising(Answers):
        async def __call__(self, name: str, upstream: Upstream) -> dict[str, Listed]:
            if self.asked == 0:
                self.asked += 1
                raise ZeroDivisionError(KEY)
            return await super().__call__(name, upstream)

    async def scenario() -> None:
        async with running(Surprising({"a": Listed()})) as found:
            while found.listed("up") is None:
                await asyncio.sleep(0.001)

    asyncio.run(scenario())
    assert caplog.messages == ["the models of the upstream 'up' are not known: ZeroDivisionError"]


def test_the_start_does_not_wait_for_an_upstream_that_says_nothing_and_neither_does_the_end() -> None:
    async def never(name: str, upstream: Upstream) -> dict[str, Listed]:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> None:
        async with asyncio.timeout(10), running(never) as found:
            await asyncio.sleep(0)
            assert found.awaited("up")

    asyncio.run(scenario())


def test_a_real_upstream_is_asked_in_the_background() -> None:
    async def scenario() -> Any:
        async with serving(page({"id": "m"})) as upstream:
            found = Discovery(Config(upstreams={"up": upstream}))
            await found.start()
            try:
                async with asyncio.timeout(30):
                    while found.awaited("up"):
                        await asyncio.sleep(0.01)
                return found.listed("up")
            finally:
                await found.close()

    assert asyncio.run(scenario()) == {"m": Listed()}
