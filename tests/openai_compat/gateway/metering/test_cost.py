"""Costs are whole numbers: exact for each token, and sums of them never drift."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.config import Price
from openai_compat.gateway.metering.cost import UNIT, Counts, amount, rates_of, units

prices = st.decimals(min_value=0, max_value=10_000, places=6).map(float)
tokens = st.integers(0, 10_000_000)


@given(prices, prices, prices, tokens, tokens, st.integers(0, 10_000_000))
def test_a_cost_is_what_the_written_price_says_to_the_last_digit(prompt, completion, cached, read, made, known) -> None:
    rates = rates_of(Price(prompt=prompt, completion=completion, cached=cached))
    known = min(known, read)
    exact = sum(
        Fraction(Decimal(repr(price))) * count / 10**6
        for price, count in ((prompt, read - known), (cached, known), (completion, made))
    )
    assert Fraction(rates.of(Counts(read, made, known)), UNIT) == exact


@given(st.lists(st.tuples(tokens, tokens), max_size=50), prices, prices)
def test_many_small_costs_are_one_large_cost(requests, prompt, completion) -> None:
    rates = rates_of(Price(prompt=prompt, completion=completion))
    together = Counts(sum(read for read, _ in requests), sum(made for _, made in requests))
    assert sum(rates.of(Counts(*one)) for one in requests) == rates.of(together)


def test_a_million_calls_of_a_tenth_of_a_cent_are_a_thousand() -> None:
    rates = rates_of(Price(request=0.001))
    assert amount(sum(rates.request for _ in range(1_000_000))) == 1000.0


def test_cached_tokens_cost_what_others_do_where_nothing_is_said() -> None:
    assert rates_of(Price(prompt=2.5)).of(Counts(1_000_000, 0, 400_000)) == units(2.5)
    assert rates_of(Price(prompt=2.5, cached=0.25)).of(Counts(1_000_000, 0, 400_000)) == units(1.6)


def test_more_cached_tokens_than_the_prompt_has_make_no_cost_negative() -> None:
    assert rates_of(Price(prompt=1.0, cached=0.5)).of(Counts(10, 0, 1000)) == 10 * UNIT // 2 // 10**6


@pytest.mark.parametrize(("written", "read"), [(0.1, 0.1), (19.99, 19.99), (1e-6, 1e-6), (1e12, 1e12)])
def test_an_amount_is_read_as_it_was_written(written: float, read: float) -> None:
    assert amount(units(written)) == read
