"""What must not stand in our own source, because elsewhere it let strangers run code: read from the syntax tree, not run."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
OURS = ("openai_compat", "handlers", "routes", "schemas")
FILES = sorted(path.relative_to(ROOT).as_posix() for name in OURS for path in (ROOT / name).rglob("*.py"))
MODULES = frozenset(("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"))
BUILTINS = frozenset(("eval", "exec", "compile", "__import__"))
# a function by its last two names, and the keyword that makes it harmless
CALLS = {
    ("torch", "load"): None,
    ("torch", "save"): None,
    ("yaml", "load"): None,
    ("yaml", "unsafe_load"): None,
    ("yaml", "full_load"): None,
    ("np", "load"): ("allow_pickle", False),
    ("numpy", "load"): ("allow_pickle", False),
    ("os", "system"): None,
    ("os", "popen"): None,
    ("subprocess", "getoutput"): None,
    ("subprocess", "getstatusoutput"): None,
    ("asyncio", "create_subprocess_shell"): None,
    ("tempfile", "mktemp"): None,
    ("export", "load"): None,
    ("jit", "load"): None,
    ("pandas", "read_pickle"): None,
    ("joblib", "load"): None,
    ("hub", "load"): None,
}
KEYWORDS = {"trust_remote_code": False, "shell": False, "allow_pickle": False, "weights_only": True, "custom_pipeline": None}
FLOORS = {"transformers": "5.3", "diffusers": "0.38", "pillow": "12.3", "litestar": "2.25", "torch": "2.6"}


@cache
def tree_of(name: str) -> ast.AST:
    return ast.parse((ROOT / name).read_text())


def faults(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"imports {name.name}" for name in names if name.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)):
                if module.partition(".")[0] in MODULES:
                    yield f"imports {module}"
                yield from (f"imports {module}.{name.name}" for name in node.names if (module, name.name) in CALLS)
            case ast.Assert():
                yield "assert, which -O takes out"
            case ast.Call():
                yield from _calls(node)
            case ast.Dict(keys=keys, values=values):
                yield from _entries(keys, values)


def _calls(node: ast.Call) -> Iterator[str]:
    function = node.func
    if isinstance(function, ast.Name) and function.id in BUILTINS:
        yield f"calls {function.id}"
    if isinstance(function, ast.Attribute):
        owner = function.value
        before = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        if (before, function.attr) in CALLS and not _made_harmless(node, CALLS[before, function.attr]):
            yield f"calls {before}.{function.attr}"
        if function.attr == "from_pretrained" and re.match("Auto[A-Z]", before) and not _refuses_code(node):
            yield f"lets {before} ask for trust"
    for keyword in node.keywords:
        if keyword.arg in KEYWORDS and not _is(keyword.value, KEYWORDS[keyword.arg]):
            yield f"sets {keyword.arg}"


def _refuses_code(node: ast.Call) -> bool:
    """By name, or among arguments that are kept in a dict; else the library asks whoever is at standard input."""
    return any(keyword.arg in ("trust_remote_code", None) for keyword in node.keywords)


def _entries(keys: list[ast.expr | None], values: list[ast.expr]) -> Iterator[str]:
    """Keyword arguments that are kept in a dict first."""
    for key, value in zip(keys, values, strict=True):
        if isinstance(key, ast.Constant) and key.value in KEYWORDS and not _is(value, KEYWORDS[key.value]):
            yield f"sets {key.value}"


def _made_harmless(node: ast.Call, by: tuple[str, bool] | None) -> bool:
    return by is not None and any(keyword.arg == by[0] and _is(keyword.value, by[1]) for keyword in node.keywords)


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("name", FILES)
def test_nothing_in_our_source_runs_what_a_stranger_wrote(name: str) -> None:
    assert sorted(faults(tree_of(name))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "np.load('x')",
        "yaml.load('x')",
        "eval('x')",
        "exec('x')",
        "subprocess.run('x', shell=True)",
        "subprocess.run('x', shell=shell)",
        "os.system('x')",
        "assert allowed",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "AutoModel.from_pretrained('x', trust_remote_code=flag)",
        "options = {'trust_remote_code': True}",
        "torch.export.load('x')",
        "torch.jit.load('x')",
        "AutoTokenizer.from_pretrained('x', local_files_only=True)",
    ],
)
def test_the_look_at_the_source_sees_it(source: str) -> None:
    assert list(faults(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["np.load('x', allow_pickle=False)", "f(trust_remote_code=False)", "re.compile('x')", "x.eval()"]
)
def test_what_is_harmless_is_not_meant(source: str) -> None:
    assert list(faults(ast.parse(source))) == []


def test_libraries_are_new_enough_to_lack_what_was_mended_in_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    found = {Requirement(line).name.lower(): Requirement(line).specifier for line in wanted}
    for name, floor in FLOORS.items():
        least = [Version(one.version) for one in found[name] if one.operator in (">=", "==", "~=")]
        assert least, f"{name} has no lowest version"
        assert max(least) >= Version(floor), name


# ---------------------------------------------------------------- regular expressions for clients' texts


def patterns(tree: ast.AST) -> Iterator[str]:
    names = ("compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names and node.args:
            owner, first = node.func.value, node.args[0]
            if (
                isinstance(owner, ast.Name)
                and owner.id == "re"
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                yield first.value


QUANTIFIED_TWICE = re.compile(r"\((?:[^()\\]|\\.)*(?:[*+]|\{\d*,\d*\})(?:[^()\\]|\\.)*\)(?:[*+]|\{\d*,\d*\})")
HARMLESS = {
    "openai_compat/gateway/upstreams/scrub.py": "4,000 characters are looked at, and a repeated group begins with a sign"
}


@pytest.mark.parametrize("name", [name for name in FILES if name not in HARMLESS])
def test_no_regular_expression_repeats_what_repeats(name: str) -> None:
    """What repeats inside a repeated group takes exponential time on texts that almost match."""
    assert [one for one in patterns(tree_of(name)) if QUANTIFIED_TWICE.search(one)] == []


def test_the_look_at_regular_expressions_sees_them() -> None:
    assert all(QUANTIFIED_TWICE.search(one) for one in (r"(a+)+", r"(?:\w*x?)*$", r"(a{1,9}b?){2,}"))
    assert not any(QUANTIFIED_TWICE.search(one) for one in (r"(ab)+", r"(a+)", r"a+b*", r"\(a+\)"))
