"""Mistakes about upstreams, routes, engines and names: each is one line with its place, and repeats no secret."""

from __future__ import annotations

import pytest

from openai_compat.config import Config, Route, RouteTarget, Upstream, UpstreamModel
from openai_compat.defaults import DEFAULT_MODELS
from openai_compat.settings import ConfigError, load

NOTHING = {"HOME": "/nowhere"}
UP = '[upstreams.up]\nbase_url = "https://api.example.com/v1"\n'
MODEL = '[models.a]\nsource = "/m"\n'
ENGINE = '[models.a]\ncommand = ["serve", "--port={port}"]\n'


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


def message(path, environ=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or NOTHING)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- what is good


def test_upstreams_routes_and_aliases_are_read(write) -> None:
    text = f"""{UP}models = {{ "gpt" = {{}}, "up/*" = {{ name = "*" }} }}
api_key_file = "/run/key"
headers = {{ x-team = "blue" }}
query = {{ api-version = "1" }}
{MODEL}[routes.r]
targets = ["a:mode", {{ model = "gpt", weight = 2 }}, "up/anything", "alias"]
larger_context = "gpt"
[aliases]
alias = "gpt"
to-route = "r"
to-pattern = "up/x"
"""
    config = load(write(text), NOTHING)
    assert config.upstreams["up"].models == {"gpt": UpstreamModel(), "up/*": UpstreamModel(name="*")}
    assert config.routes["r"].targets == ("a:mode", RouteTarget(model="gpt", weight=2), "up/anything", "alias")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "https://x.openai.azure.com/openai/deployments/{model}",
        "http://[::1]:9/v1",
        "http://gpu-box:1/",
        "HTTPS://EXAMPLE.COM",
    ],
)
def test_addresses_of_all_usual_forms_are_taken(write, url) -> None:
    assert load(write(f'[upstreams.up]\nbase_url = "{url}"\n'), NOTHING).upstreams["up"].base_url == url


def test_an_engine_is_a_model_without_a_source(write) -> None:
    text = ENGINE + '[models.a.engine]\ncapabilities = ["embed_text"]\nbase_path = ""\n'
    assert load(write(text), NOTHING).models["a"].engine.capabilities == ("embed_text",)


def test_braces_that_are_no_placeholders_stay(write) -> None:
    text = """[models.a]\ncommand = ["serve", "{port}", '{"a": {"b": 1}}', "{{ message }}", "{{model_name}}"]\n"""
    assert len(load(write(text), NOTHING).models["a"].command) == 5


def test_an_upstream_takes_the_place_of_the_default_models(write) -> None:
    assert load(write(UP), NOTHING).models == {}
    assert load(write("[routes.r]\ntargets = ['shapes']\n"), NOTHING).models == DEFAULT_MODELS


# ---------------------------------------------------------------- mistakes


def upstream(line: str) -> str:
    return UP + line + "\n"


def upstream_model(fields: str, name: str = "m") -> str:
    return f'{UP}[upstreams.up.models."{name}"]\n{fields}\n'


def route(lines: str, more: str = "") -> str:
    return f"{MODEL}[routes.r]\n{lines}\n{more}"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        # upstreams
        ("[upstreams.up]\napi_key_env = 'K'\n", 1, "upstreams.up.base_url is missing"),
        ('[upstreams."a b"]\nbase_url = "https://x"\n', 1, 'upstreams."a b": an upstream\'s name has'),
        ("[upstreams.up]\nbase_url = 'ftp://x/v1'\n", 2, "upstreams.up.base_url: it is not an address such as"),
        ("[upstreams.up]\nbase_url = 'api.example.com/v1'\n", 2, "upstreams.up.base_url: it is not an address"),
        ("[upstreams.up]\nbase_url = 'https:///v1'\n", 2, "upstreams.up.base_url: it is not an address"),
        ("[upstreams.up]\nbase_url = 'https://x:99999/'\n", 2, "upstreams.up.base_url: it is not an address"),
        ("[upstreams.up]\nbase_url = 'https://x/a b'\n", 2, "upstreams.up.base_url: it is not an address"),
        ("[upstreams.up]\nbase_url = 'https://[::1/'\n", 2, "upstreams.up.base_url: it is not an address"),
        ("[upstreams.up]\nbase_url = 'https://u:p@x/v1'\n", 2, "upstreams.up.base_url: keys do not belong into it"),
        ("[upstreams.up]\nbase_url = 'https://x/v1?a=b'\n", 2, "upstreams.up.base_url: it ends with its path"),
        ("[upstreams.up]\nbase_url = 'https://x/v1#a'\n", 2, "upstreams.up.base_url: it ends with its path"),
        ("[upstreams.up]\nbase_url = 'https://x/v1?'\n", 2, "upstreams.up.base_url: it ends with its path"),
        (
            "[upstreams.up]\nbase_url = 'https://x/v1/chat/completions'\n",
            2,
            "upstreams.up.base_url: it ends before /chat/completions, which",
        ),
        ("[upstreams.up]\nbase_url = 'https://x/v1/embeddings/'\n", 2, "upstreams.up.base_url: it ends before /embeddings/"),
        ("[[upstreams]]\nname = 'up'\n", 1, "upstreams: expected a table, got a list"),
        (upstream("models = ['a', 'b']"), 3, "upstreams.up.models: expected a table, got a list"),
        (upstream("proxy = 'socks5://p:1'"), 3, "upstreams.up.proxy: it is not an address such as http://host:port"),
        ("[upstreams.up]\nbase_url = 'https://x/{name}'\n", 2, "upstreams.up.base_url: of braces it may have {model} only"),
        ("[upstreams.up]\nbase_url = 'https://{model}.x/'\n", 2, "upstreams.up.base_url: {model} may stand in its path only"),
        (
            "[upstreams.up]\nbase_url = 'https://x/{model}'\ndiscover = true\n",
            3,
            "upstreams.up.discover: an address with {model}",
        ),
        (upstream("api_key_env = 'K'\napi_key_file = '/f'"), 4, "upstreams.up.api_key_file: the key comes from api_key_env"),
        (upstream("api_key_env = 'sk-secret'"), 3, "upstreams.up.api_key_env: it is the name of a variable"),
        (upstream("api_key_header = 'a b'"), 3, "upstreams.up.api_key_header: no key can be sent"),
        (upstream("api_key_header = 'Host'"), 3, "upstreams.up.api_key_header: no key can be sent"),
        (upstream("headers = { 'a b' = 'x' }"), 3, 'upstreams.up.headers."a b": a header of this name cannot be set'),
        (upstream("headers = { Content-Length = '1' }"), 3, "upstreams.up.headers.Content-Length: a header of this name"),
        (upstream('headers = { a = "x\\r\\ny: z" }'), 3, "upstreams.up.headers.a: its value is not one line"),
        (upstream("headers = { a = '' }"), 3, "upstreams.up.headers.a: its value is not one line"),
        (upstream("headers = { a = '1', A = '2' }"), 3, "upstreams.up.headers.A: it is there twice"),
        (
            upstream("api_key_env = 'K'\nheaders = { Authorization = 'secret' }"),
            4,
            "upstreams.up.headers.Authorization: the key is",
        ),
        (
            upstream("api_key_env='K'\napi_key_header='X-K'\nheaders={x-k='secret'}"),
            5,
            "upstreams.up.headers.x-k: the key is sent",
        ),
        (upstream('organization = "a\\nb"'), 3, "upstreams.up.organization: it is not one line"),
        (upstream('query = { "" = "x" }'), 3, "upstreams.up.query: a parameter has no name"),
        (upstream("proxy = 'socks5://x'"), 3, "upstreams.up.proxy: it is not an address"),
        (upstream("retries = 11"), 3, "upstreams.up.retries: expected int <= 10, got 11"),
        (upstream("[upstreams.up.breaker]\npause = 9\npause_max = 5"), 5, "upstreams.up.breaker.pause_max: it is shorter"),
        (upstream("[upstreams.up.breaker]\nfailures = 0"), 4, "upstreams.up.breaker.failures: expected int >= 1"),
        (upstream_model("", name="a*b*"), 3, 'upstreams.up.models."a*b*": a pattern has one * only'),
        (upstream_model("name = '*'"), 4, "upstreams.up.models.m.name: its * stands for nothing"),
        (upstream_model("name = '*/*'", name="*"), 4, 'upstreams.up.models."*".name: its * stands for nothing'),
        (upstream_model('name = "a\\nb"'), 4, "upstreams.up.models.m.name: a model's name has"),
        (upstream_model("", name=" "), 3, 'upstreams.up.models." ": a model\'s name has'),
        (upstream_model("capabilities = ['chat']"), 4, "upstreams.up.models.m.capabilities: 'chat' is no capability; known"),
        (upstream_model("drop = ['model']"), 4, "upstreams.up.models.m.drop: the field 'model' is not to be changed"),
        (upstream_model("rename = { x = 'stream' }"), 4, "upstreams.up.models.m.rename: the field 'stream' is not"),
        (upstream_model("rename = { x = 'z', y = 'z' }"), 4, "upstreams.up.models.m.rename: two fields get the same name"),
        (upstream_model("price = { prompt = -1 }"), 4, "upstreams.up.models.m.price.prompt: expected float >= 0.0, got -1"),
        (
            upstream_model("price = { promt = 1 }"),
            4,
            "unknown setting 'upstreams.up.models.m.price.promt'; did you mean 'prompt'?",
        ),
        # names
        (MODEL + UP + "models = { a = {} }\n", 5, "upstreams.up.models.a: a model has this id already; a route may have both"),
        (
            UP + 'models = { m = {} }\n[upstreams.two]\nbase_url = "https://y"\nmodels = { m = {} }\n',
            6,
            "upstreams.two.models.m: the upstream 'up' has this name already; a route may have both",
        ),
        (MODEL + "[routes.a]\ntargets = ['a']\n", 3, "routes.a: a model has this id already"),
        (route("targets = ['a']", "[aliases]\nr = 'a'\n"), 6, "aliases.r: a route has this name already"),
        (UP + "models = { m = {} }\n[aliases]\nm = 'm'\n", 5, "aliases.m: the upstream 'up' has this name already"),
        (UP + "models = { m = {} }\n[aliases]\nx = 'n'\n", 5, "aliases.x: there is no model 'n'. Models: m"),
        (UP + "models = { 'o/*' = {} }\n[aliases]\nx = 'o/'\n", 5, "aliases.x: there is no model 'o/'. Models: o/*"),
        (MODEL + "[aliases]\n'x*' = 'a'\n", 4, 'aliases."x*": an alias is one name, without a *'),
        # routes
        (route("targets = []"), 4, "routes.r.targets: a route needs a target"),
        (route("policy = 'ordered'"), 3, "routes.r.targets is missing"),
        (route("targets = ['b']"), 4, "routes.r.targets: there is no model 'b'. Models: a"),
        (route("targets = ['r']"), 4, "routes.r.targets: 'r' is a route, and routes lead to models only"),
        (route("targets = ['x']", "[aliases]\nx = 'r'\n"), 4, "routes.r.targets: 'x' is a route, and routes lead"),
        (route("targets = ['a', 'a']"), 4, "routes.r.targets: a target is there twice; give it a larger weight"),
        (route("targets = ['a*']"), 4, "routes.r.targets: 'a*' stands for many; a target is one model"),
        (route("targets = ['a']\nlarger_context = 'b'"), 5, "routes.r.larger_context: there is no model 'b'"),
        (route("targets = ['a']\nhedge_after = 1"), 5, "routes.r.hedge_after: there is no second target to be asked"),
        (route("targets = ['a']\npolicy = 'best'"), 5, "routes.r.policy: expected one of ordered, round_robin"),
        (route("targets = [{ model = 'a', weight = 0 }]"), 4, "routes.r.targets: expected"),
        (MODEL + "[routes.'r*']\ntargets = ['a']\n", 3, 'routes."r*": a route is one name, without a *'),
        # engines
        (ENGINE + "kind = 'text'\n", 3, "models.a.kind: it is for models of this server"),
        (ENGINE + "options = { sequences = 2 }\n", 3, "models.a.options: it is for models of this server"),
        (ENGINE + 'source = "/m"\n', 2, "models.a.command: a model has either a source or a command"),
        ("[models.a]\ncommand = ['x']\n", 2, "models.a.command: it must be told its port"),
        ("[models.a]\ncommand = ['', '{port}']\n", 2, "models.a.command: the program has no name"),
        ("[models.a]\ncommand = ['x', '{prt}']\n", 2, "models.a.command: {prt} stands for nothing; known here: {port}, {host}"),
        (MODEL + "[models.a.engine]\nname = 'x'\n", 3, "models.a.engine: it is about a model's command, and this one has none"),
        (ENGINE + "[models.a.engine]\nhealth = 'health'\n", 4, "models.a.engine.health: a path begins with a slash"),
        (ENGINE + "[models.a.engine]\ncapabilities = ['x']\n", 4, "models.a.engine.capabilities: 'x' is no capability"),
        ("[models.a]\n[models.b]\nsource = '/m'\n", 1, "models.a: it needs a source or a command"),
        # the rest
        ("[cache]\nsize = 'big'\n", 2, "cache.size: 'big' is not a size"),
        ("[cache]\nsize = '10%'\n", 2, "cache.size: a percentage makes no sense here"),
        ("[cache]\nwhen = 'always'\n", 2, "cache.when: expected one of temperature_0, header"),
        ("[metering]\ntokens_per_day = 0\n", 2, "metering.tokens_per_day: expected int >= 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(write, text, line, says) -> None:
    path = write(text)
    shown = message(path)
    assert shown.startswith(f"{path}, line {line}: {says}"), shown


@pytest.mark.parametrize(
    "lines",
    [
        "base_url = 'https://user:sk-secret@x/v1'",
        "base_url = 'sk-secret'",
        "base_url = ['sk-secret']",
        "base_url = 'https://x'\napi_key_env = 'sk-secret'",
        "base_url = 'https://x'\napi_key = 'sk-secret'",
        "base_url = 'https://x'\napi_key_file = ['sk-secret']",
        "base_url = 'https://x'\nheaders = 'Bearer sk-secret'",
        "base_url = 'https://x'\nheaders = { authorization = ['Bearer sk-secret'] }",
        'base_url = "https://x"\nheaders = { authorization = "Bearer sk-secret\\n" }',
        "base_url = 'https://x'\nquery = ['sk-secret']",
        "base_url = 'https://x'\nproxy = 'nothing://sk-secret@x'",
    ],
)
def test_no_message_repeats_what_may_be_a_secret(write, lines) -> None:
    assert "sk-secret" not in message(write(f"[upstreams.up]\n{lines}\n"))


# ---------------------------------------------------------------- the environment


def test_an_upstream_may_be_changed_from_the_environment(write) -> None:
    environ = {
        "OPENAI_COMPAT_UPSTREAMS__UP__BASE_URL": "https://other.example.com/v1",
        "OPENAI_COMPAT_UPSTREAMS__UP__DISCOVER": "true",
        "OPENAI_COMPAT_UPSTREAMS__UP__MODELS": '{"gpt": {"name": "x"}}',
        "OPENAI_COMPAT_UPSTREAMS__UP__BREAKER__FAILURES": "9",
    }
    found = load(write(UP), environ).upstreams["up"]
    assert found.base_url == "https://other.example.com/v1"
    assert found.models == {"gpt": UpstreamModel(name="x")}
    assert (found.discover, found.breaker.failures) == (True, 9)


def test_an_upstream_and_a_route_may_be_in_the_environment_alone() -> None:
    environ = {
        **NOTHING,
        "OPENAI_COMPAT_UPSTREAMS__MY_LAB__BASE_URL": "http://127.0.0.1:9000/v1",
        "OPENAI_COMPAT_UPSTREAMS__MY_LAB__API_KEY_ENV": "LAB_KEY",
        "OPENAI_COMPAT_ROUTES__FAST__TARGETS": "one, two",
    }
    upstreams = {"my_lab": Upstream(base_url="http://127.0.0.1:9000/v1", api_key_env="LAB_KEY")}
    assert load(None, environ) == Config(upstreams=upstreams, routes={"fast": Route(targets=("one", "two"))})


def test_a_key_may_be_in_a_variable_that_is_called_like_a_setting(write) -> None:
    path = write(upstream("api_key_env = 'OPENAI_COMPAT_UP_KEY'"))
    assert load(path, {"OPENAI_COMPAT_UP_KEY": "sk-secret"}).upstreams["up"].api_key_env == "OPENAI_COMPAT_UP_KEY"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OPENAI_COMPAT_UPSTREAMS__LAB__API_KEY_ENV", "K", "'upstreams.lab'; OPENAI_COMPAT_UPSTREAMS__LAB__BASE_URL begins it"),
        ("OPENAI_COMPAT_ROUTES__R__POLICY", "ordered", "'routes.r'; OPENAI_COMPAT_ROUTES__R__TARGETS begins it"),
        ("OPENAI_COMPAT_UPSTREAMS__LAB__BASE_URL", "nowhere", "upstreams.lab.base_url: it is not an address"),
        ("OPENAI_COMPAT_UPSTREAMS", "sk-secret", "expected a table, got a text"),
        ("OPENAI_COMPAT_ROUTES__R__TARGETS", "nothing-here", "routes.r.targets: there is no model 'nothing-here'"),
    ],
)
def test_a_mistake_is_named_with_its_variable(variable, value, says) -> None:
    shown = message(None, {**NOTHING, variable: value})
    assert shown.startswith(f"{variable}: "), shown
    assert says in shown
    assert "sk-secret" not in shown
