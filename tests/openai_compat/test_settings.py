"""Settings come from defaults, file, environment and flags, in this order; every mistake is one line that names its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai_compat.auth import hash_key
from openai_compat.config import Config, Model, Server
from openai_compat.defaults import DEFAULT_MODELS
from openai_compat.settings import ConfigError, check_exposure, find_file, load


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "config.toml"
        path.write_text(text)
        return path

    return write


def message(path, environ=None, flags=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {"HOME": "/nowhere"}, flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


NOTHING = {"HOME": "/nowhere"}


def test_without_anything_the_defaults_are_in_force() -> None:
    assert load(None, NOTHING) == Config(models=DEFAULT_MODELS)


def test_each_layer_wins_over_the_one_before(write) -> None:
    path = write("[server]\nport = 1\nhost = '127.0.0.2'\nrequest_timeout = 5\n")
    assert load(path, NOTHING).server == Server(port=1, host="127.0.0.2", request_timeout=5.0)
    assert load(path, {"PORT": "2"}).server.port == 2
    assert load(path, {"PORT": "2", "OPENAI_COMPAT_SERVER__PORT": "3"}).server.port == 3
    flags = {"server.port": 4, "server.host": None}
    assert load(path, {"OPENAI_COMPAT_SERVER__PORT": "3"}, flags).server == Server(
        port=4, host="127.0.0.2", request_timeout=5.0
    )


def test_environment_variables_take_the_type_of_their_setting(write) -> None:
    path = write('[models."org/a-b:c"]\nsource = "/m"\n')
    config = load(
        path,
        {
            "OPENAI_COMPAT_SERVER__INLINE": "true",
            "OPENAI_COMPAT_SERVER__PING_INTERVAL": "2.5",
            "OPENAI_COMPAT_MODELS__ORG_A_B_C__PRELOAD": "1",
            "OPENAI_COMPAT_MODELS__ORG_A_B_C__DEVICE": '["cuda:0", "cpu"]',
            "OPENAI_COMPAT_ALIASES": '{"gpt-4o-mini": "org/a-b:c"}',
            "OPENAI_COMPAT_AUTH__KEYS": f"{hash_key('a')}, {hash_key('b')}",
            "OPENAI_COMPAT_SERVER__HOST": "",
        },
    )
    assert config.server == Server(inline=True, ping_interval=2.5)
    assert config.models == {"org/a-b:c": Model(source="/m", preload=True, device=("cuda:0", "cpu"))}
    assert config.aliases == {"gpt-4o-mini": "org/a-b:c"}
    assert config.auth.keys == (hash_key("a"), hash_key("b"))


def test_a_default_model_can_be_changed_from_the_environment() -> None:
    name = next(iter(DEFAULT_MODELS))
    variable = "OPENAI_COMPAT_MODELS__" + "".join(char if char.isalnum() else "_" for char in name.upper()) + "__PIN"
    models = load(None, {**NOTHING, variable: "true"}).models
    assert models[name].pin is True
    assert models[name].source == DEFAULT_MODELS[name].source


def test_models_of_the_file_replace_the_default_ones(write) -> None:
    assert list(load(write('[models.own]\nsource = "/m"\n'), NOTHING).models) == ["own"]


def test_a_plain_key_of_the_environment_is_kept_as_its_hash_only(write) -> None:
    path = write(f'[auth]\nkeys = ["{hash_key("one")}"]\n')
    config = load(path, {"OPENAI_COMPAT_API_KEY": "sk-two"})
    assert config.auth.keys == (hash_key("one"), hash_key("sk-two"))
    assert "sk-two" not in repr(config)
    started = load(path, {"OPENAI_COMPAT_API_KEY": "sk-two", "OPENAI_COMPAT_ENGINE_KEY": "sk-three"})  # as another's engine
    assert started.auth.keys == (*config.auth.keys, hash_key("sk-three"))


def test_variables_with_a_meaning_of_their_own_are_no_settings() -> None:
    environ = {**NOTHING, "OPENAI_COMPAT_CACHE_DIR": "/x", "OPENAI_COMPAT_CONFIG": "", "OPENAI_API_KEY": "y"}
    assert load(None, environ) == load(None, NOTHING)


def test_files_of_a_model_are_read(write) -> None:
    digest = "0" * 64
    files = f'{{path = "p", sha256 = "{digest}"}}, {{path = "q", sha256 = "{digest}", name = "n"}}'
    path = write(f'[models.a]\nsource = "pypi:x==1"\nfiles = [{files}]\n')
    assert [file.name for file in load(path, NOTHING).models["a"].files] == ["", "n"]


@pytest.mark.parametrize(
    ("source", "file", "says"),
    [
        ("pypi:x==1", 'sha256 = "DIGEST", name = "n"', "the file 'n' has no path"),
        ("pypi:x==1", 'path = "p", sha256 = "DIGEST", name = "n", parts = [PART]', "is made of parts"),
        ("pypi:x==1", 'sha256 = "DIGEST", parts = [PART]', "is made of parts"),
        ("pypi:x==1", 'sha256 = "DIGEST", name = "n", parts = [{path = "q", sha256 = "0"}]', "the sha256 of 'q'"),
        ("hf:o/n", 'sha256 = "DIGEST", name = "n", parts = [PART]', "only files of a pypi: source"),
        ("hf:o/n", 'path = "p", sha256 = "DIGEST", source = "pypi:y==1"', "only files of a pypi: source"),
    ],
)
def test_a_file_in_parts_says_what_it_is(write, source, file, says) -> None:
    text = file.replace("PART", '{path = "q", sha256 = "DIGEST"}').replace("DIGEST", "0" * 64)
    with pytest.raises(ConfigError, match=says):
        load(write(f'[models.a]\nsource = "{source}"\nfiles = [{{{text}}}]\n'), NOTHING)


def test_the_file_is_the_named_one_or_the_users_own(tmp_path) -> None:
    usual = tmp_path / "openai-compat" / "config.toml"
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert find_file(None, environ) is None
    usual.parent.mkdir()
    usual.touch()
    assert find_file(None, environ) == usual
    assert find_file(None, {**environ, "OPENAI_COMPAT_CONFIG": "/other"}).as_posix() == "/other"
    assert find_file(tmp_path / "third", {**environ, "OPENAI_COMPAT_CONFIG": "/other"}) == tmp_path / "third"


def test_without_a_home_there_is_no_usual_configuration(monkeypatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert find_file(None, {}) is None


def test_a_file_in_the_current_directory_is_not_read(write, monkeypatch) -> None:
    monkeypatch.chdir(write("[server]\nport = 1\n").parent)
    assert load(None, NOTHING).server.port == 8000


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[server]\nhost = 'a'\nprot = 1\n", 3, "unknown setting 'server.prot'; did you mean 'port'?"),
        ("[sever]\nport = 1\n", 1, "unknown setting 'sever'; did you mean 'server'?"),
        ("[server]\nport = 'x'\n", 2, 'server.port: expected int, got "x"'),
        ("[server]\nport = 70000\n", 2, "server.port: expected int <= 65535, got 70000"),
        ("[server]\nport = true\n", 2, "server.port: expected int, got true"),
        ("[server]\nlog_format = 'xml'\n", 2, 'server.log_format: expected one of text, json, got "xml"'),
        ("server = 3\n", 1, "server: expected a table, got 3"),
        ("server.port = 'x'\n", 1, 'server.port: expected int, got "x"'),
        ("[server]\nmax_body = '32MiBs'\n", 2, "server.max_body: '32MiBs' has no unit that is known"),
        ("[server]\nmax_body = '10%'\n", 2, "server.max_body: a percentage makes no sense here"),
        ("[memory]\nhost = '200%'\n", 2, "memory.host: 200% is more than there is"),
        ('[memory.devices]\n"cuda:0" = "big"\n', 2, "memory.devices.\"cuda:0\": 'big' is not a size"),
        ('[models."a.b"]\npin = true\n', 1, 'models."a.b": it needs a source or a command'),
        ('[models.a]\nsource = "/m"\n[models.b]\nsource = "/m"\npreload = 1\n', 5, "models.b.preload: expected bool, got 1"),
        ('[models.a]\nsource = "/m"\nfiles = [{path = "p"}]\n', 3, "models.a.files.sha256 is missing"),
        ("[auth]\nkeys = ['sk-plain']\n", 2, "auth.keys: key 1 is not of the form sha256:"),
        ('[models.a]\nsource = "/m"\n[aliases]\n# a comment\ngpt = "b"\n', 5, "aliases.gpt: there is no model 'b'. Models: a"),
        ('[models.a]\nsource = "/m"\n[aliases]\na = "a"\n', 4, "aliases.a: a model has this id already"),
        ('[models.a]\nsource = "/m"\n[aliases]\ngood = "a"\nbad = 5\n', 5, "aliases.bad: expected str, got 5"),
        ('[models.a]\nsource = "/m"\n[aliases]\nx = "y"\ny = "x"\n', 4, "aliases.x: it leads from alias to alias"),
        ('[models.a]\nsource = "/m"\n[aliases]\nx = "a"\ny = "x:code"\n', 5, "aliases.y: there is no model 'x:code'"),
        ('[models.a]\nsource = "/m"\n[aliases]\n"" = "a"\n', 4, 'aliases."": a model\'s name has 1 to 256 characters'),
        ('[models." "]\nsource = "/m"\n', 1, 'models." ": a model\'s name has'),
        ('[models."a\u200bb"]\nsource = "/m"\n', 1, 'models."a\u200bb": a model\'s name has'),
        ('[models.a]\nsource = "/m"\ndevice = "gpu"\n', 3, "models.a.device: there is no device 'gpu'"),
        ('[models.a]\nsource = "/m"\ndevice = ["cpu", "cuda"]\n', 3, "models.a.device: there is no device 'cuda'"),
        ('[models.a]\nsource = "/m"\ndevice = []\n', 3, "models.a.device: the list is empty"),
        ('[models.a]\nsource = "/m"\nfiles = [{path = "p", sha256 = "ab"}]\n', 3, "models.a.files: the sha256 of 'p' is not"),
        ("[server]\nrequest_timeout = inf\n", 2, "server.request_timeout: expected float <= 31536000.0"),
        ("[server]\nrequest_timeout = 0\n", 2, "server.request_timeout: expected float > 0.0, got 0"),
        ("[server]\ncors_origins = ['http://a/']\n", 2, "server.cors_origins: 'http://a/' is not an origin"),
        ("[workers]\nheartbeat = 0\n", 2, "workers.heartbeat: expected float > 0.0, got 0"),
        ('[models.a]\nsource = "/m"\nmax_load_time = 0\n', 3, "models.a.max_load_time: expected float > 0.0, got 0"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(write, text, line, says) -> None:
    path = write(text)
    shown = message(path)
    assert shown.startswith(f"{path}, line {line}: {says}"), shown


def test_a_secret_is_not_repeated(write) -> None:
    assert "sk-plain" not in message(write("[auth]\nkeys = ['sk-plain']\n"))


def test_an_alias_may_name_a_mode_or_another_alias(write) -> None:
    path = write('[models.a]\nsource = "/m"\n[aliases]\npoet = "a:creative"\nbard = "poet"\n')
    assert load(path, NOTHING).aliases == {"poet": "a:creative", "bard": "poet"}


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"[server\n", "line 1"), (b"a = \xff\n", "is not UTF-8 text"), (None, "there is no such file")],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, content, says) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    assert says in message(path)


def test_a_folder_is_no_configuration(tmp_path) -> None:
    assert "is a directory" in message(tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("OPENAI_COMPAT_SERVER__PROT", "1", "unknown setting 'server.prot'; did you mean 'port'?"),
        ("OPENAI_COMPAT_SERVER_PORT", "1", "unknown setting 'server_port'"),
        ("OPENAI_COMPAT_SERVER__PORT", "x", 'expected int, got "x"'),
        ("OPENAI_COMPAT_SERVER__PORT__X", "1", "server.port has no parts"),
        ("OPENAI_COMPAT_SERVER", "3", "expected a table"),
        ("OPENAI_COMPAT_SERVER__LOG_LEVEL", "loud", "expected one of debug, info, warning, error"),
        ("OPENAI_COMPAT_MODELS__NOSUCH__PIN", "1", "unknown setting 'models.nosuch'"),
        ("OPENAI_COMPAT_ALIASES", "{x", "is not valid JSON"),
        ("OPENAI_COMPAT_ALIASES", '{"a": "b"}', "aliases.a: there is no model 'b'"),
        ("OPENAI_COMPAT_MEMORY__HOST", "lots", "memory.host: 'lots' is not a size"),
        ("PORT", "http", "expected a number, got 'http'"),
        ("PORT", "70000", "server.port: expected int <= 65535"),
    ],
)
def test_a_mistake_in_the_environment_is_named_with_its_variable(variable, value, says) -> None:
    shown = message(None, {**NOTHING, variable: value})
    assert shown.startswith(f"{variable}: "), shown
    assert says in shown


def test_a_mistake_in_a_flag_is_named_with_the_flag() -> None:
    assert message(None, NOTHING, {"server.port": 70000}).startswith("--port: server.port: expected int <= 65535")


def test_every_web_page_is_served_only_with_a_key(write) -> None:
    path = write("[server]\ncors_origins = ['*']\n")
    with pytest.raises(ConfigError, match=r"^server.cors_origins has '\*', .*make one with 'openai-compat key create'"):
        check_exposure(load(path, NOTHING))
    check_exposure(load(path, {**NOTHING, "OPENAI_COMPAT_API_KEY": "k"}))


def test_other_machines_are_served_only_with_a_key() -> None:
    with pytest.raises(ConfigError, match=r"^server.host is 0.0.0.0, .* set OPENAI_COMPAT_API_KEY or auth.keys"):
        check_exposure(load(None, NOTHING, {"server.host": "0.0.0.0"}))
    check_exposure(load(None, {**NOTHING, "OPENAI_COMPAT_API_KEY": "k"}, {"server.host": "0.0.0.0"}))
    check_exposure(load(None, NOTHING))
