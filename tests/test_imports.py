"""Who may import whom: the directions that keep the gateway light and the layers apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("openai_compat", "handlers", "routes", "schemas")
HEAVY = {"torch", "transformers", "diffusers", "accelerate", "gguf", "safetensors", "numpy", "PIL", "openai"}
BASICS = ("openai_compat.errors", "openai_compat.protocol")

# A module may import the modules of its own package and these; the longest name that fits a module is its rule.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "openai_compat.errors": (),
    "openai_compat.protocol": (),
    "openai_compat.allocator": (),
    "openai_compat.config": (),
    "openai_compat.sizes": (),
    "openai_compat.logs": (),
    "openai_compat.patterns": (),
    "openai_compat.grants": ("openai_compat.config", "openai_compat.patterns"),
    "openai_compat.metrics": (),
    "openai_compat.layers": ("openai_compat.config",),
    "openai_compat.defaults": ("openai_compat.config",),
    "openai_compat.media": (*BASICS, "openai_compat.patterns", "handlers.types"),  # what it decodes is the domain's Sound
    "openai_compat.translate": (
        "schemas",
        "handlers.types",
        "openai_compat.errors",
        "openai_compat.media.sniff",
        "openai_compat.media.urls",
    ),
    "openai_compat.http": (*BASICS, "schemas"),
    "openai_compat.auth": ("openai_compat.errors", "openai_compat.grants", "openai_compat.http", "openai_compat.keys.secret"),
    "openai_compat.keys": (
        "openai_compat.auth",
        "openai_compat.config",
        "openai_compat.errors",
        "openai_compat.gateway.metering.cost",
        "openai_compat.gateway.store",
        "openai_compat.gateway.tasks",
        "openai_compat.grants",
        "schemas",
    ),
    "openai_compat.limits": ("openai_compat.errors", "openai_compat.http", "openai_compat.sizes"),
    "openai_compat.telemetry": (
        "openai_compat.errors",
        "openai_compat.http",
        "openai_compat.metrics",
        "openai_compat.sizes",
    ),
    "openai_compat.settings": (
        "openai_compat.auth",
        "openai_compat.config",
        "openai_compat.defaults",
        "openai_compat.keys.file",
        "openai_compat.layers",
        "openai_compat.settings_admin",
        "openai_compat.settings_edge",
        "openai_compat.settings_relay",
        "openai_compat.sizes",
    ),
    "openai_compat.settings_admin": (
        "openai_compat.auth",
        "openai_compat.config",
        "openai_compat.http.listening",
        "openai_compat.layers",
    ),
    "openai_compat.settings_edge": ("openai_compat.config", "openai_compat.http.proxies", "openai_compat.layers"),
    "openai_compat.settings_relay": (
        "handlers.types",
        "openai_compat.config",
        "openai_compat.layers",
        "openai_compat.patterns",
    ),
    "openai_compat.worker": (*BASICS, "handlers", "openai_compat.config", "openai_compat.media", "openai_compat.logs"),
    "openai_compat.worker.process": (
        *BASICS,
        "handlers",
        "openai_compat.allocator",
        "openai_compat.app",
        "openai_compat.config",
        "openai_compat.http",
        "openai_compat.logs",
        "openai_compat.worker",
    ),
    "openai_compat.worker.track": (*BASICS, "openai_compat.http.errors", "openai_compat.worker"),
    "openai_compat.gateway": (
        *BASICS,
        "schemas",
        "openai_compat.allocator",
        "openai_compat.config",
        "openai_compat.defaults",
        "openai_compat.grants",
        "openai_compat.http",
        "openai_compat.keys.table",
        "openai_compat.media",
        "openai_compat.patterns",
        "openai_compat.sizes",
        "openai_compat.translate",
        "handlers.registry",
        "handlers.analyze",
        "handlers.config_bounds",
        "handlers.headers",
        "handlers.headers_ctranslate2",
        "handlers.headers_gguf",
        "handlers.types",
    ),
    "openai_compat.cli": OURS,
    "openai_compat": OURS,
    "handlers.types": ("openai_compat.errors",),
    "handlers": ("openai_compat.errors",),
    "schemas": ("openai_compat.errors",),
    "schemas.admin": ("openai_compat.grants",),
    "routes": (
        *BASICS,
        "schemas",
        "openai_compat.grants",
        "openai_compat.translate",
        "openai_compat.worker",
        "openai_compat.http",
        "openai_compat.media",
        "handlers.types",
    ),
}
MODULES = sorted(path for name in OURS for path in (ROOT / name).rglob("*.py"))


def dotted_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imported(tree: ast.AST) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    sources = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in sources), "imports are absolute"
    return names | {f"{node.module}.{alias.name}" for node in sources for alias in node.names}


@pytest.mark.parametrize("path", MODULES, ids=dotted_name)
def test_a_module_imports_only_what_its_layer_may(path) -> None:
    module = dotted_name(path)
    rule = max((name for name in MAY_IMPORT if within(module, name)), key=len)
    ours = {name for name in imported(ast.parse(path.read_text())) if name.partition(".")[0] in OURS}
    allowed = (rule, *MAY_IMPORT[rule])
    assert {name for name in ours if not any(within(name, package) for package in allowed)} == set()


def modules_after(program: str) -> set[str]:
    """The heavy libraries that are loaded once ``program`` has run, in a process of its own."""
    report = f"\nimport sys; print(*({HEAVY!r} & set(sys.modules)))"
    command = [sys.executable, "-P", "-c", program + report]
    return set(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split())


def test_importing_any_module_but_the_text_engine_loads_nothing_heavy() -> None:
    names = [dotted_name(path) for path in MODULES if path.name != "__main__.py" and "decoding" not in path.parts]
    assert modules_after("\n".join(f"import {name}" for name in names)) == set()


def test_the_gateway_loads_nothing_heavy() -> None:
    program = (
        "from openai_compat import settings\nfrom openai_compat.app import create_gateway\n"
        "create_gateway(settings.load(None, {'HOME': '/nowhere'}))\n"
    )
    assert modules_after(program) == set()
