"""What a relayed request costs here, beside other gateways: processor time, and added latency, all in one run.

    python benchmarks/relay_peers.py [--nginx PATH] [--litellm PATH] [--portkey PATH] [--rounds 3]

One trivial upstream and this client share one core; every gateway runs on the other, one of them busy at a time, in turns. PATH
is nginx's program, ``bin/litellm`` of an environment with ``litellm[proxy]``, and ``build/start-server.js`` of
``@portkey-ai/gateway``. Printed are medians of the rounds, with the least and the most.

Processor time is that of the gateway's process tree: for a whole answer, asked for one at a time and 32 at a time; and for one
streamed chunk (the stream's time less a whole answer's), one stream at a time or eight, where the client asks for usage, and
where chunks do not follow at once but are a millisecond apart, so that each wakes the gateway up. Latency is that of whole
answers asked for at a rate, whether the last has come or not, less the upstream's own when it is asked directly.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from msgspec import Struct, structs
from support.asking import Latencies, Question, Unanswered, at_rate, client, in_turn, quantile
from support.peers import Peer, base_of, litellm, mock_upstream, nginx, ours, portkey
from support.watching import processor_seconds

STREAM: dict[str, Any] = {"stream": True}
COUNTED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
Figures = dict[tuple[str, str], list[float]]


class Work(Struct, frozen=True):
    """One kind of request; a ``seed`` makes the upstream's chunks come slowly."""

    name: str
    fields: dict[str, Any]
    count: int
    workers: int


WORKS = (
    Work("request, one at a time", {}, 1000, 1),
    Work("request, 32 at a time", {}, 1500, 32),
    Work("chunk", STREAM, 12, 1),
    Work("chunk, usage asked for", COUNTED, 12, 1),
    Work("chunk, 8 streams", STREAM, 24, 8),
    Work("chunk, 1 ms apart", {**STREAM, "seed": 1}, 4, 4),
)
CORES = sorted(os.sched_getaffinity(0))[-2:]
LATENCIES = ("added p50, ms", "added p99, ms")


async def cost(session: aiohttp.ClientSession, peer: Peer, work: Work) -> float:
    """Processor microseconds of one request."""
    once = structs.replace(peer.question, fields=work.fields).asked(session)
    count = max(work.workers, int(work.count * peer.share))
    await in_turn(once, 2 * work.workers if work.count > 100 else 2, work.workers)
    before = processor_seconds(peer.pid)
    await in_turn(once, count, work.workers)
    return (processor_seconds(peer.pid) - before) / count * 1e6


async def costs(peers: Sequence[Peer], chunks: int, figures: Figures) -> None:
    """One round: each kind of work, each gateway in its turn."""
    for work in WORKS:
        for peer in peers:
            try:
                async with client() as session:
                    used = await cost(session, peer, work)
            except Unanswered as failure:
                print(f"{peer.name} fails at '{work.name}': {failure}", file=sys.stderr)
                continue
            if work.fields.get("stream"):
                used = (used - figures[peer.name, WORKS[work.workers > 1].name][-1]) / chunks
            figures[peer.name, work.name].append(used)


async def latency(question: Question, rate: float, seconds: float) -> Latencies:
    async with client() as session:
        once = question.asked(session)
        await at_rate(once, rate, 1)
        return await at_rate(once, rate, seconds)


async def latencies(peers: Sequence[Peer], direct: Question, options: argparse.Namespace, figures: Figures) -> None:
    """One round: the upstream itself, then each gateway that can keep up with the rate."""
    bare = await latency(direct, options.rate, options.seconds)
    figures["upstream", "p50, ms"].append(quantile(bare, 0.5) * 1e3)
    figures["upstream", "p99, ms"].append(quantile(bare, 0.99) * 1e3)
    for peer in peers:
        if statistics.median(figures[peer.name, WORKS[0].name]) * options.rate < 0.7e6:
            times = await latency(peer.question, options.rate, options.seconds)
            for name, share in zip(LATENCIES, (0.5, 0.99), strict=True):
                figures[peer.name, name].append((quantile(times, share) - quantile(bare, share)) * 1e3)


async def compare(peers: Sequence[Peer], upstream: int, options: argparse.Namespace) -> Figures:
    figures: Figures = defaultdict(list)
    direct = Question(base_of(upstream))
    for number in range(options.rounds):
        await costs(peers, options.chunks, figures)
        await latencies(peers, direct, options, figures)
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    return figures


# ---------------------------------------------------------------- what is printed


def table(peers: Sequence[Peer], rows: Sequence[str], show: Callable[[str, str], str]) -> None:
    columns = [["", *rows], *([peer.name, *(show(peer.name, row) for row in rows)] for peer in peers)]
    widths = [max(map(len, column)) for column in columns]
    for first, *cells in zip(*columns, strict=True):
        print(first.ljust(widths[0]), *(cell.rjust(width + 2) for cell, width in zip(cells, widths[1:], strict=True)))


def spread(figures: Figures, peer: str, row: str) -> str:
    if not (values := figures.get((peer, row))):
        return "-"
    digits = 0 if max(values) >= 100 else 2 if row.endswith("ms") else 1
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def ratio(figures: Figures, base: str, peer: str, row: str) -> str:
    if not (values := figures.get((peer, row))) or row in LATENCIES:
        return "-"
    ratios = [value / own for value, own in zip(values, figures[base, row], strict=True) if own > 0]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def report(figures: Figures, peers: Sequence[Peer], options: argparse.Namespace) -> None:
    rows = [*(work.name for work in WORKS), *LATENCIES]
    print(f"\nCPU µs, and latency at {options.rate:g} requests a second: median of {options.rounds} rounds (least to most)")
    table(peers, rows, partial(spread, figures))
    bare = (spread(figures, "upstream", row) for row in ("p50, ms", "p99, ms"))
    print("the upstream asked directly: p50 {} ms, p99 {} ms".format(*bare))
    print(f"\nas many times the CPU of '{peers[0].name}', round by round")
    table(peers, rows[: len(WORKS)], partial(ratio, figures, peers[0].name))


# ---------------------------------------------------------------- setting up


@contextmanager
def gateways(options: argparse.Namespace, upstream: int) -> Iterator[list[Peer]]:
    """Ours first, then those whose programs were named."""
    core = options.cores[0]
    with ExitStack() as stack:
        peers = [stack.enter_context(ours(upstream, core, metered=metered)) for metered in (True, False)]
        for start in (nginx, litellm, portkey):
            if path := getattr(options, start.__name__):
                peers.append(stack.enter_context(start(path.absolute(), upstream, core)))
            else:
                print(f"{start.__name__}: not measured; give --{start.__name__} PATH")
        yield peers


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for peer in ("nginx", "litellm", "portkey"):
        parser.add_argument(f"--{peer}", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=400, help="of a stream")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement at that rate")
    parser.add_argument(
        "--cores", type=int, nargs=2, default=sorted(os.sched_getaffinity(0))[-2:], help="gateways', and the rest's"
    )
    parser.add_argument("--json", type=Path, help="where all figures are written to")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    os.sched_setaffinity(0, {options.cores[1]})
    with mock_upstream(options.cores[1], options.chunks) as upstream, gateways(options, upstream) as peers:
        figures = uvloop.run(compare(peers, upstream, options))
    report(figures, peers, options)
    if options.json:
        options.json.write_text(json.dumps({f"{peer}: {row}": values for (peer, row), values in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
