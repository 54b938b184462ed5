"""Parcels come out as they went in, however the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai_compat.http.parcels import LONGEST, BrokenParcels, Kind, ParcelReader, parcel

PARCELS = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=8)


@given(PARCELS, st.lists(st.integers(0, 300), max_size=12))
def test_parcels_survive_any_cut(parcels, cuts) -> None:
    stream = b"".join(parcel(kind, payload) for kind, payload in parcels)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = ParcelReader()
    found = [item for start, end in pairwise(places) for item in reader.feed(stream[start:end])]
    assert found == parcels


@pytest.mark.parametrize("stream", [b"\0\0\0\0\0", b"<html>", parcel(Kind.END)[:1] + (LONGEST + 1).to_bytes(4, "big")])
def test_bytes_of_another_kind_are_no_parcels(stream: bytes) -> None:
    with pytest.raises(BrokenParcels):
        list(ParcelReader().feed(stream))
