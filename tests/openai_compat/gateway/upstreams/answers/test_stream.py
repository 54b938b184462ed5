"""A stream gives the same bytes, counts and end however it was cut, and whatever ends its lines have."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai_compat.gateway.upstreams.framing import Framing
from openai_compat.gateway.upstreams.stream import DONE, Guard, Rules

PING = b": ping\n\n"


def data(value: Any, **how: Any) -> bytes:
    return b"data: " + json.dumps(value, **{"separators": (",", ":"), **how}).encode() + b"\n\n"


def delta(content: str, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "model": "m",
        "choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish}],
        **more,
    }


HI, STOP = data(delta("Hi")), data(delta("", finish="stop"))
USAGE = {"prompt_tokens": 5, "completion_tokens": 3}
PARTS = [
    HI,
    data(delta('ü €\n\r"usage" 𝄞'), ensure_ascii=False),
    data(delta("spaced", usage=None), separators=(", ", ": ")),
    data(delta("usage", usage=None)),
    data(delta("both", usage=USAGE)),
    data({"id": "c", "choices": [], "usage": USAGE}),
    data({"id": "c", "choices": None, "usage": USAGE}),
    data({"id": "c", "usage": USAGE}),
    data(delta("second", index=1)),
    b": comment\n\n",
    b"\n\n",
    b"id: 1\nevent: chunk\n" + HI,
    HI.replace(b"data: ", b"data:"),
    HI.replace(b'"choices"', b'\ndata: "choices"'),
    data({"error": {"message": "no"}}),
    b"garbage\n\n",
    b'data: {"choices":[],}\n\n',
    STOP,
    DONE,
]


def run(chunks: list[bytes], **rules: Any) -> tuple[bytes, list[Any], str, bool]:
    """What went to the client, what was counted, why it ended, and whether it ended well."""
    counts: list[Any] = []
    guard = Guard(Rules(**{"chat": True, "ends": False, "used": lambda *count: counts.append(count), **rules}))
    out = b""
    for chunk in chunks:
        if guard.failure is not None or guard.done:
            break
        out += guard.feed(chunk)
    if guard.failure is None and not guard.done:
        out += guard.end()
    return out, counts, str(guard.failure or ""), guard.done


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges) if a != b]


@settings(max_examples=400, deadline=None)
@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=8),
    places=st.lists(st.integers(0, 4000), max_size=30),
    ends=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    bom=st.booleans(),
    drop_usage=st.booleans(),
    model=st.sampled_from([None, "public"]),
)
def test_a_stream_cut_anywhere_is_the_same_stream(
    parts: list[bytes], places: list[int], ends: bytes, bom: bool, drop_usage: bool, model: str | None
) -> None:
    plain = b"".join(parts)
    stream = (b"\xef\xbb\xbf" if bom else b"") + plain.replace(b"\n", ends)
    expected = run([event for event in parts if event], drop_usage=drop_usage, model=model)
    assert run(cut(stream, places), drop_usage=drop_usage, model=model) == expected


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_any_bytes_at_all_end_in_an_error_and_pass_nothing_that_is_no_event(noise: bytes, places: list[int]) -> None:
    out, _, failure, done = run(cut(HI + noise, places) or [HI])
    assert failure or done
    assert all(part.startswith((b"data: {", b": ping", b"id:", b"event:", b"retry:")) for part in out.split(b"\n\n") if part)


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"data"]), max_size=20), st.lists(st.integers(0, 60), max_size=9))
def test_blocks_end_where_events_do(pieces: list[bytes], places: list[int]) -> None:
    stream = b"".join(pieces)
    framing = Framing()
    blocks = [block for block in (framing.feed(chunk) for chunk in cut(stream, places)) if block]
    assert all(block.endswith(b"\n\n") for block in blocks)
    assert b"".join(blocks) + framing.rest() == stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def test_ordinary_events_pass_as_the_very_same_object() -> None:
    chunk = HI + HI
    guard = Guard(Rules(chat=True, ends=False, used=lambda *_: None))
    guard.feed(HI)
    assert guard.feed(chunk) is chunk


def test_usage_that_the_client_asked_for_stays() -> None:
    asked = data(delta("x", usage=None)) + data({"id": "c", "choices": [], "usage": USAGE})
    assert run([HI, asked, STOP, DONE])[:2] == (HI + asked + STOP + DONE, [(5, 3, 0)])


@pytest.mark.parametrize("choices", [{"choices": None}, {}])
def test_a_usage_event_for_the_client_always_has_a_list_of_choices(choices: dict[str, Any]) -> None:
    out, counts, _, _ = run([HI, STOP, data({"id": "c", **choices, "usage": USAGE}), DONE])
    event = out.removeprefix(HI + STOP).removesuffix(DONE)
    assert json.loads(event[6:]) == {"id": "c", "choices": [], "usage": USAGE}
    assert counts == [(5, 3, 0)]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,", " : ")])
def test_usage_that_only_we_asked_for_leaves_no_trace(separators: tuple[str, str]) -> None:
    stream = [
        data({"usage": None, **delta("a")}, separators=separators),
        data(delta("b", usage=None), separators=separators),
        data(delta("c", usage=USAGE), separators=separators),
        data({"id": "c", "choices": [], "usage": USAGE}, separators=separators),
        data(delta("", finish="stop"), separators=separators),
    ]
    out, counts, failure, done = run([*stream, DONE], drop_usage=True)
    assert (counts, failure, done) == ([(5, 3, 0)] * 2, "", True)
    events = [json.loads(event[6:]) for event in out.split(b"\n\n")[:-2]]
    assert events == [delta("a"), delta("b"), delta("c"), delta("", finish="stop")]


def test_what_a_text_says_is_never_taken_for_usage_or_an_error() -> None:
    text = '","usage":null,"error":{"message":"x"},"choices":null,"model":"m" data: [DONE]'
    event = data(delta(text))
    assert run([event, STOP, DONE], drop_usage=True)[:3] == (event + STOP + DONE, [], "")


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")])
def test_the_model_is_renamed_at_the_top_level_alone(separators: tuple[str, str]) -> None:
    said = delta('say "model":"m"', extra={"model": "m"})
    events = [data(said, separators=separators), data({**said, "model": "other"}, separators=separators)]
    out, *_ = run([*events, b"".join(events), STOP, DONE], model='public "é"')
    seen = [json.loads(event[6:]) for event in out.split(b"\n\n")[:4]]
    assert seen == [{**said, "model": 'public "é"'}] * 4


def test_the_name_is_replaced_in_one_go_once_it_is_known() -> None:
    out, *_ = run([HI, HI + HI, STOP, DONE], model="public")
    assert out == (HI + HI + HI + STOP + DONE).replace(b'"m"', b'"public"')


def test_choices_are_missed_by_their_own_index() -> None:
    both = data(delta("a")) + data(delta("b", index=1))
    ended = data(delta("", finish="stop")) + data(delta("", index=1, finish="length"))
    assert run([both, ended])[2:] == ("", True)
    assert "ended its answer early" in run([both, STOP])[2]


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": "9"}, {"prompt_tokens": 10**12}, [1], 7, {}]
)
def test_usage_that_makes_no_sense_is_not_counted(usage: Any) -> None:
    assert run([data(delta("x", usage=usage)), STOP, DONE])[1] == []


@pytest.mark.parametrize("index", [None, [0], {"a": 1}, "0", 0.5, True])
def test_a_choice_of_any_index_is_one_or_an_error(index: Any) -> None:
    out, _, failure, done = run([data(delta("x", index=index)), data(delta("", index=index, finish="stop"))])
    assert (done and not failure and out.endswith(DONE)) or (failure and not out)


@pytest.mark.parametrize(("odd", "sound"), [("NaN", None), ("-Infinity", None), ('"\\ud83d"', "\ufffd"), ("1e5", 1e5)])
def test_what_only_some_clients_can_read_is_put_right(odd: str, sound: Any) -> None:
    event = HI.replace(b'"id":"c"', b'"id":"c","logprob":' + odd.encode())
    out, _, failure, done = run([event + STOP, DONE], model="public")
    assert (failure, done) == ("", True)
    assert json.loads(out.split(b"\n\n")[0][6:]) == {**delta("Hi"), "model": "public", "logprob": sound}
    assert b"NaN" not in out


def test_empty_fields_mean_nothing() -> None:
    events = data(delta("a", finish="", error="")) + data(delta("b", error={})) + data(delta("c", error=False))
    assert run([events, DONE])[::2] == (events + DONE, "")
    assert "ended its answer early" in run([events])[2]


def test_deep_nesting_is_no_way_to_crash() -> None:
    deep = b'data: {"choices":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n"
    assert run([HI, deep])[2]
    assert run([HI, b"event: x\n" + deep])[2]
