"""What is kept stays within a number of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from handlers.decoding.grammar_cache import ByteCache


def test_the_longest_unused_goes_first() -> None:
    cache: ByteCache[str] = ByteCache(10)
    cache.put("a", "A", 4)
    cache.put("b", "B", 4)
    assert cache.get("a") == "A"
    cache.put("c", "C", 4)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("A", None, "C")


def test_what_is_larger_than_the_whole_is_not_kept() -> None:
    cache: ByteCache[str] = ByteCache(10)
    cache.put("a", "A", 4)
    cache.put("b", "B", 11)
    assert (cache.get("a"), cache.get("b")) == ("A", None)


def test_a_new_value_takes_the_place_of_the_old_one() -> None:
    cache: ByteCache[str] = ByteCache(10)
    cache.put("a", "A", 9)
    cache.put("a", "B", 3)
    assert (cache.get("a"), cache.size, len(cache)) == ("B", 3, 1)


def test_what_is_dropped_is_gone() -> None:
    cache: ByteCache[str] = ByteCache(10)
    cache.put("a", "A", 9)
    cache.drop("a")
    cache.drop("a")
    assert (cache.get("a"), cache.size) == (None, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12))))
def test_the_sum_is_right_and_within_bounds_whatever_is_put_in(puts) -> None:
    cache: ByteCache[int] = ByteCache(20)
    for key, size in puts:
        cache.put(key, size, size)
    held = [size for key in range(6) if (size := cache.get(key)) is not None]
    assert sum(held) == cache.size <= 20
