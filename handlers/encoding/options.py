"""What ``[models.ID.options]`` may say of an embedding model; it wins over the model's files."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class EmbeddingOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``batch_tokens`` is what one forward may have, padding included; see docs/embeddings.md for the others."""

    token_ids: Literal["decode_cl100k", "native", "reject"] = "decode_cl100k"  # noqa: S105 -- not a secret
    truncate: bool = False
    matryoshka: bool | tuple[Count, ...] | None = None
    pooling: PoolingMode | None = None
    normalize: bool | None = None
    prompts: dict[str, str] | None = None
    default_prompt: str | None = None
    append_eos: bool = False
    batch_tokens: Count | None = None
