"""What a worker's process may know of the gateway's own environment."""

from __future__ import annotations

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
    ],
)
def test_the_gateways_credentials_stay_with_it(name: str) -> None:
    assert name not in worker_environment({name: "secret", "PATH": "/bin"})


def test_what_the_operator_set_stays_but_for_what_keeps_models_from_reaching_out() -> None:
    made = worker_environment({"PATH": "/bin", "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "true"})
    assert (made["PATH"], made["OMP_NUM_THREADS"], made["TOKENIZERS_PARALLELISM"]) == ("/bin", "1", "true")
    assert (made["HF_HUB_OFFLINE"], made["PYTHONSAFEPATH"]) == ("1", "1")
