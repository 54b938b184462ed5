"""Vectors of a request → the bytes of its answer."""

from __future__ import annotations

from typing import Any

from handlers.encoding.pooling import normalize


def to_bytes(vectors: list[Any], dimensions: int | None) -> tuple[bytes, ...]:
    """Little-endian float32; cut to ``dimensions`` and brought back to length one where that is shorter."""
    import torch

    matrix = torch.stack(vectors)
    if dimensions is not None and dimensions < matrix.shape[1]:
        matrix = normalize(matrix[:, :dimensions])
    return tuple(row.tobytes() for row in matrix.numpy().astype("<f4", copy=False))


def joined(vectors: list[Any]) -> list[Any]:
    """The direction between each of the first half, texts, and its partner in the second, pictures."""
    import torch

    half = len(vectors) // 2
    return list(normalize((torch.stack(vectors[:half]) + torch.stack(vectors[half:])) / 2))
