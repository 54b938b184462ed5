"""The table of what was used: written in batches, read by day, restored into the windows of the limits."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence

from openai_compat.gateway.metering.cost import UNIT
from openai_compat.gateway.metering.counters import Place, Sums, Table
from openai_compat.gateway.store.database import Database
from openai_compat.keys import table as keys

_HOURS = 24
_FINE = 2 * _HOURS
"""Hours for which rows are kept by the hour; older ones are put together by the day."""
_KEPT = 400 * _HOURS
_COUNTED = ("requests", "prompt", "cached", "completion", "estimated")
_COLUMNS = ("key_id", "model", "hour", *_COUNTED, "cost", "cost_rest")
_ADDED = ", ".join(f"{name} = {name} + excluded.{name}" for name in _COUNTED)
_UPSERT = f"""
    INSERT INTO usage ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
    ON CONFLICT (key_id, model, hour) DO UPDATE SET {_ADDED},
        cost = cost + excluded.cost + (cost_rest + excluded.cost_rest) / {UNIT},
        cost_rest = (cost_rest + excluded.cost_rest) % {UNIT}
"""  # noqa: S608 -- made of constants
_SUMS = ", ".join(f"SUM({name})" for name in (*_COUNTED, "cost", "cost_rest"))


async def write(database: Database, table: Table) -> None:
    """Add to what is there, and to what the keys have cost. Raises ``sqlite3.Error``, and ``Unavailable`` where the disk is
    full; then nothing was added.
    """
    rows = [_row(place, sums) for place, sums in table.items()]
    costs: Counter[str] = Counter()
    for place, sums in table.items():
        costs[place.key_id] += sums.cost

    def work(connection: sqlite3.Connection) -> None:
        connection.executemany(_UPSERT, rows)
        keys.spend(connection, {key_id: cost for key_id, cost in costs.items() if cost})

    await database.run(work)


async def read(database: Database, *, key_id: str | None, since: int, model: str | None) -> Table:
    """Sums by key, model and hour from the hour ``since`` on; of every key and model where those are None."""
    wanted = {"key_id = ?": key_id, "model = ?": model}
    conditions = ["hour >= ?", *(condition for condition, value in wanted.items() if value is not None)]
    values = (since, *(value for value in wanted.values() if value is not None))
    return await database.run(lambda connection: _select(connection, " AND ".join(conditions), values))


async def spent(database: Database) -> dict[str, int]:
    """What each key of the store has cost so far, by its id."""
    return await database.run(keys.spent)


async def tidy(database: Database, hour: int) -> None:
    """Keep what is older than two days before ``hour`` by the day only, as its first hour's; what nobody can ask for goes."""
    before = (hour // _HOURS) * _HOURS - _FINE

    def work(connection: sqlite3.Connection) -> None:
        condition = f"hour < ? AND hour % {_HOURS} <> 0"
        old = _select(connection, condition, (before,))
        connection.execute(f"DELETE FROM usage WHERE {condition}", (before,))  # noqa: S608
        by_day = [_row(place._replace(hour=place.hour - place.hour % _HOURS), sums) for place, sums in old.items()]
        connection.executemany(_UPSERT, by_day)
        connection.execute("DELETE FROM usage WHERE hour < ?", (hour - _KEPT,))

    await database.run(work)


def _select(connection: sqlite3.Connection, where: str, values: Sequence[object]) -> Table:
    statement = f"SELECT key_id, model, hour, {_SUMS} FROM usage WHERE {where} GROUP BY 1, 2, 3 ORDER BY 3"  # noqa: S608
    return dict(_read(connection.execute(statement, values)))


def _read(rows: Iterable[tuple[str, str, int, int, int, int, int, int, int, int]]) -> Iterable[tuple[Place, Sums]]:
    for key_id, model, hour, *counted, cost, rest in rows:
        requests, prompt, cached, completion, estimated = counted
        sums = Sums(requests, prompt, cached, completion, estimated, cost * UNIT + rest)
        yield Place(key_id, model, hour), sums


def _row(place: Place, sums: Sums) -> tuple[object, ...]:
    counted = (sums.requests, sums.prompt, sums.cached, sums.completion, sums.estimated)
    return (*place, *counted, *divmod(sums.cost, UNIT))
