"""docs/upstreams.md: every example is a configuration that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openai_compat.gateway.upstreams.sender import UpstreamSender
from openai_compat.settings import load

PAGE = (Path(__file__).parent.parent / "docs" / "upstreams.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.split("]")[0].strip("[") for example in EXAMPLES])
def test_an_example_is_taken(example: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(example.replace('ca_file = "/etc/ssl/our-ca.pem"\n', ""))
    config = load(file, {})
    assert config.upstreams
    UpstreamSender(config.upstreams, hold=5, ping_interval=5)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7
