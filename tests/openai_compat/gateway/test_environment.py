"""What a worker's process may know of the gateway's own environment."""

from __future__ import annotations

import subprocess
import sys

import pytest

from openai_compat.gateway.environment import worker_environment


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "OPENAI_COMPAT_API_KEY",
        "OPENAI_COMPAT_AUTH__KEYS",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AZURE_CLIENT_SECRET",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "PGPASSWORD",
        "PIP_INDEX_URL",
        "HTTPS_PROXY",
        "http_proxy",
        "all_proxy",
    ],
)
def test_the_gateways_credentials_stay_with_it(name: str) -> None:
    assert name not in worker_environment({name: "secret", "PATH": "/bin"})


def test_what_the_operator_set_stays_but_for_what_keeps_models_from_reaching_out() -> None:
    made = worker_environment({"PATH": "/bin", "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "true"})
    assert (made["PATH"], made["OMP_NUM_THREADS"], made["TOKENIZERS_PARALLELISM"]) == ("/bin", "1", "true")
    assert (made["HF_HUB_OFFLINE"], made["PYTHONSAFEPATH"]) == ("1", "1")


OFFLINE = """
from openai_compat.protocol import Launch
from openai_compat.worker.process import set_environment
set_environment(Launch(worker_id="w", token="t", socket="s", status_socket="s", spec={}))
import huggingface_hub.constants as hub, transformers.utils.hub as library
print(hub.HF_HUB_OFFLINE, library.is_offline_mode())
"""


def test_the_libraries_of_a_worker_know_that_they_are_offline() -> None:
    environment = worker_environment({"PATH": "/bin", "HF_HUB_OFFLINE": "0"})
    command = [sys.executable, "-P", "-c", OFFLINE]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert said.stdout.split() == ["True", "True"]
