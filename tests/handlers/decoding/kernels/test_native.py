"""Packed matrices against exact arithmetic, and their promise that a row never depends on its company."""

from __future__ import annotations

import math

import pytest
import torch

from handlers.decoding.kernels.native import Kernels, Matrix

SIZES = [(1, 1), (5, 31), (33, 70), (64, 64), (100, 576), (576, 1536), (31, 33)]
BITS = [4, 8, 16]
MOST = 127 * 256 + 127


def quantised(x: torch.Tensor) -> torch.Tensor:
    """Activations as the kernels round them: 16 bits with a scale for every 32 along the row."""
    padded = torch.nn.functional.pad(x.double(), (0, -x.shape[1] % 32)).view(len(x), -1, 32)
    most = padded.abs().amax(-1, keepdim=True)
    codes = torch.where(most > 0, padded / most * MOST, padded).round()
    return (codes * most / MOST).view(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_a_product_is_that_of_the_rounded_numbers(kernels: Kernels, outputs: int, inputs: int, bits: int) -> None:
    torch.manual_seed(outputs)
    matrix = Matrix(kernels, torch.randn(outputs, inputs), bits)
    x, bias = torch.randn(13, inputs), torch.randn(outputs)
    taken = x.double() if bits == 16 else quantised(x)
    exact = taken @ matrix.dense().double().T + bias.double()
    # A value half-way between two codes may fall either way, and the kernels add in float32: hence not 1e-6.
    torch.testing.assert_close(matrix.multiply(x, bias).double(), exact, rtol=1e-4, atol=1e-3)
    rough = matrix.multiply(x.bfloat16(), bias)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.double(), exact, rtol=0.05, atol=0.05 * exact.abs().max().item())


@pytest.mark.parametrize("bits", BITS)
def test_rounding_activations_costs_next_to_nothing(kernels: Kernels, bits: int) -> None:
    torch.manual_seed(0)
    matrix = Matrix(kernels, torch.randn(200, 576), bits)
    x = torch.randn(9, 576) * torch.logspace(0, 3, 576)[torch.randperm(576)]
    exact = x.double() @ matrix.dense().double().T
    assert (matrix.multiply(x).double() - exact).norm() < 5e-5 * exact.norm()


@pytest.mark.parametrize(("bits", "allowed"), [(16, 0.002), (8, 0.01), (4, 0.10)])
def test_weights_survive_within_the_error_of_their_bits(kernels: Kernels, bits: int, allowed: float) -> None:
    torch.manual_seed(0)
    weights = torch.randn(96, 320) * torch.logspace(-4, 1, 96)[:, None]
    rounded = Matrix(kernels, weights, bits).dense()
    assert ((rounded - weights).norm(dim=1) / weights.norm(dim=1)).max() < allowed


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [2, 5, 6, 7, 13, 32])
def test_a_row_alone_is_bit_for_bit_the_row_in_company(kernels: Kernels, rows: int, bits: int) -> None:
    torch.manual_seed(rows)
    matrix = Matrix(kernels, torch.randn(100, 200), bits)
    x = torch.randn(rows, 200) * torch.logspace(-3, 3, rows)[:, None]
    together = matrix.multiply(x)
    assert all(torch.equal(matrix.multiply(row[None])[0], together[i]) for i, row in enumerate(x))


def test_threads_change_no_bit(kernels: Kernels) -> None:
    torch.manual_seed(0)
    matrix, x = Matrix(kernels, torch.randn(1000, 96), 8), torch.randn(9, 96)
    kernels.use_threads(1)
    alone = matrix.multiply(x)
    kernels.use_threads(3)
    many = [matrix.multiply(x) for _ in range(200)]
    kernels.use_threads(2)
    assert all(torch.equal(alone, found) for found in many)


def test_zeros_and_huge_values_give_numbers(kernels: Kernels) -> None:
    for bits in BITS:
        matrix = Matrix(kernels, torch.zeros(40, 40), bits)
        assert torch.equal(matrix.multiply(torch.full((2, 40), 1e30)), torch.zeros(2, 40))
        assert torch.equal(Matrix(kernels, torch.ones(40, 40), bits).multiply(torch.zeros(2, 40)), torch.zeros(2, 40))


def test_the_largest_codes_of_weights_and_activations_do_not_overflow(kernels: Kernels) -> None:
    for bits in BITS:
        signs = torch.tensor([1.0, -1.0]).repeat(16)
        matrix = Matrix(kernels, torch.stack([signs, -signs]), bits)
        found = matrix.multiply(torch.stack([signs, -signs]))
        torch.testing.assert_close(found, torch.tensor([[32.0, -32.0], [-32.0, 32.0]]), rtol=1e-3, atol=0)


def test_weights_in_bfloat16_lose_nothing(kernels: Kernels) -> None:
    weights = torch.randn(70, 90).bfloat16().float()
    assert torch.equal(Matrix(kernels, weights, 16).dense(), weights)


@pytest.mark.parametrize("fewest", [0, 3])
def test_weights_made_from_four_bits_are_recognised(kernels: Kernels, fewest: int) -> None:
    torch.manual_seed(0)
    codes = torch.randint(fewest, 16, (64, 10, 32)).float()
    codes[..., 0], codes[..., 1] = fewest, 15
    made = ((codes - 15 * torch.rand(64, 10, 1)) * (0.1 + torch.rand(64, 10, 1))).view(64, 320).bfloat16().float()
    assert kernels.four_bit_loss(made, 512) < 1e-3 < kernels.four_bit_loss(torch.randn(64, 320), 512)
    torch.testing.assert_close(Matrix(kernels, made, 4).dense(), made, rtol=0, atol=0.02 * made.abs().max().item())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("place", [0, 15, 16, 31, 40])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_shows_and_stays_in_its_row(kernels: Kernels, bits: int, place: int, value: float) -> None:
    torch.manual_seed(0)
    matrix, x = Matrix(kernels, torch.randn(40, 64), bits), torch.randn(9, 64)
    x[4, place] = value
    finite = matrix.multiply(x).isfinite()
    assert not finite[4].any()
    assert finite[[0, 1, 2, 3, 5, 6, 7, 8]].all()


@pytest.mark.parametrize("bits", BITS)
def test_the_widest_and_largest_sums_do_not_overflow(kernels: Kernels, bits: int) -> None:
    """All codes at their ends, in every combination of signs: the whole numbers are as large as they can be."""
    inputs = 32_768
    signs = torch.tensor([1.0, -1.0]).repeat_interleave(inputs // 2)
    for weights in (torch.ones(33, inputs), -torch.ones(33, inputs), signs.expand(33, -1)):
        matrix = Matrix(kernels, weights, bits)
        x = torch.stack([torch.ones(inputs), -torch.ones(inputs), signs, torch.full((inputs,), 1e-30)])
        exact = x.double() @ matrix.dense().double().T
        torch.testing.assert_close(matrix.multiply(x).double(), exact, rtol=1e-4, atol=0.05)
