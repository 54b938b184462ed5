"""Making and changing keys: what stays, what is refused, and that no text is ever part of a statement."""

from __future__ import annotations

import msgspec
import pytest

from openai_compat.errors import Conflict, InvalidRequest, NotFound
from openai_compat.grants import CLIENTS, KeyLimits
from openai_compat.keys import keeper as module
from openai_compat.keys import table
from schemas.admin import CreateKey, Limits, UpdateKey

HOSTILE = ["' OR '1'='1", "x'; DROP TABLE keys; --", '"', "%", "_" * 16, "\x00", "0" * 5000, "../../etc/passwd", "né"]


def test_a_key_may_do_what_clients_do_and_nothing_of_operators_unless_it_is_said(bench) -> None:
    async def scenario(b) -> None:
        key = (await b.keeper.create(CreateKey())).key
        assert (key.scopes, key.models, key.limits, key.expires) == (CLIENTS, (), KeyLimits(), None)
        assert not key.scopes & {"admin", "metrics", "events", "load"}

    bench(scenario)


def test_secrets_are_of_much_chance_and_all_different(bench) -> None:
    async def scenario(b) -> None:
        secrets = [(await b.keeper.create(CreateKey())).secret for _ in range(20)]
        assert len(set(secrets)) == 20
        assert all(secret.startswith("sk-") and len(secret) == 46 for secret in secrets)

    bench(scenario)


def test_only_what_is_named_is_changed_and_null_takes_away(bench) -> None:
    async def scenario(b) -> None:
        limits = Limits(tokens_per_day=10, requests_per_minute=0)
        order = CreateKey(name="a", models=("m",), limits=limits, expires_at=int(b.clock.now) + 9)
        id = (await b.keeper.create(order)).key.id
        key = await b.keeper.update(id, UpdateKey(limits=Limits(tokens_per_day=None, budget=1.5)))
        assert key.limits == KeyLimits(requests_per_minute=0, budget=1.5)
        assert (key.name, key.models, key.expires) == ("a", ("m",), order.expires_at)
        key = await b.keeper.update(id, UpdateKey(models=None, limits=None, expires_at=None))
        assert (key.name, key.models, key.limits, key.expires) == ("a", (), KeyLimits(), None)
        assert await b.keeper.update(id, UpdateKey()) == await b.keeper.get(id)

    bench(scenario)


def test_a_revoked_key_stays_revoked_and_is_not_changed(bench) -> None:
    async def scenario(b) -> None:
        id = (await b.keeper.create(CreateKey())).key.id
        first = await b.keeper.revoke(id)
        b.clock.now += 100
        assert (await b.keeper.revoke(id)).revoked == first.revoked
        with pytest.raises(Conflict):
            await b.keeper.update(id, UpdateKey(name="again"))
        with pytest.raises(Conflict):
            await b.keeper.rotate(id, grace=10)

    bench(scenario)


def test_an_expiry_that_is_over_is_refused(bench) -> None:
    async def scenario(b) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await b.keeper.create(CreateKey(expires_at=int(b.clock.now)))
        assert caught.value.param == "expires_at"
        id = (await b.keeper.create(CreateKey())).key.id
        with pytest.raises(InvalidRequest):
            await b.keeper.update(id, UpdateKey(expires_at=1))

    bench(scenario)


def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends_after_its_grace(bench) -> None:
    async def scenario(b) -> None:
        old = await b.keeper.create(CreateKey(name="a", scopes=("chat",), limits=Limits(budget=3.0)))
        await b.file.run(lambda connection: table.spend(connection, {old.key.id: 5}))
        new = await b.keeper.rotate(old.key.id, grace=60)
        await b.becomes(lambda: b.find(new.secret))
        assert b.find(new.secret) == msgspec.structs.replace(b.find(old.secret), key_id=new.key.id, expires=None)
        assert (await b.keeper.get(new.key.id)).spent == 5
        b.clock.now += 60
        assert b.find(old.secret) is None
        assert b.find(new.secret)

    bench(scenario)


def test_pages_are_in_the_order_of_making(bench) -> None:
    async def scenario(b) -> None:
        ids = [(await b.keeper.create(CreateKey(name=str(n)))).key.id for n in range(5)]
        first = await b.keeper.page(after=None, limit=2)
        assert ([key.id for key in first.keys], first.has_more) == (ids[:2], True)
        rest = await b.keeper.page(after=ids[1], limit=3)
        assert ([key.id for key in rest.keys], rest.has_more) == (ids[2:], False)
        assert (await b.keeper.page(after="nothing", limit=3)).keys == []

    bench(scenario)


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_an_id_a_name_or_a_cursor_says_it_is_no_part_of_a_statement(bench, text) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey(name=text, models=(text,)))
        for call in (b.keeper.get(text), b.keeper.revoke(text), b.keeper.update(text, UpdateKey(name="x"))):
            with pytest.raises(NotFound) as caught:
                await call
            assert text not in caught.value.message or len(text) < 3
        assert (await b.keeper.page(after=text, limit=10)).keys == []
        await b.keeper.update(made.key.id, UpdateKey(name=text + "'"))
        assert (await b.keeper.get(made.key.id)).name == text + "'"
        assert (await b.keeper.get(made.key.id)).models == (text,)
        await b.becomes(lambda: b.find(made.secret))
        assert b.find(text) is None

    bench(scenario)


def test_looking_makes_no_file(bench) -> None:
    async def scenario(b) -> None:
        assert (await b.keeper.page(after=None, limit=5)).keys == []
        for call in (b.keeper.get("x"), b.keeper.revoke("x"), b.keeper.update("x", UpdateKey())):
            with pytest.raises(NotFound):
                await call
        assert not b.path.parent.exists()

    bench(scenario, started=False)


def test_there_is_an_end_to_how_many_keys_there_may_be(bench, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 2)

    async def scenario(b) -> None:
        made = [await b.keeper.create(CreateKey()) for _ in range(2)]
        with pytest.raises(Conflict):
            await b.keeper.create(CreateKey())
        with pytest.raises(Conflict):
            await b.keeper.rotate(made[0].key.id, grace=10)
        assert (await b.keeper.get(made[0].key.id)).expires is None  # the failed rotation left it as it was

    bench(scenario)


def test_the_key_that_ended_first_makes_room(bench, monkeypatch) -> None:
    """Else whoever rotates keys every day could make none any more some day."""
    monkeypatch.setattr(module, "MOST_KEYS", 3)

    async def scenario(b) -> None:
        now = int(b.clock())
        keeps, revoked, expires = [await b.keeper.create(CreateKey(expires_at=end)) for end in (None, None, now + 50)]
        b.clock.now += 10
        await b.keeper.revoke(revoked.key.id)
        b.clock.now += 100
        await b.becomes(lambda: b.find(keeps.secret))
        for gone in (revoked, expires):
            made = await b.keeper.create(CreateKey())
            with pytest.raises(NotFound):
                await b.keeper.get(gone.key.id)
            await b.becomes(lambda secret=made.secret: b.find(secret))  # by a server that has read what is gone
        with pytest.raises(Conflict):
            await b.keeper.create(CreateKey())
        assert [bool(b.find(key.secret)) for key in (keeps, revoked, expires)] == [True, False, False]

    bench(scenario)


def test_what_was_spent_adds_up_exactly(bench) -> None:
    async def scenario(b) -> None:
        id = (await b.keeper.create(CreateKey())).key.id
        for cost in (999_999_999_999, 1, 10**12 + 7, 0):
            await b.file.run(lambda connection, cost=cost: table.spend(connection, {id: cost, "gone": 5}))
        assert (await b.keeper.get(id)).spent == 2 * 10**12 + 7
        assert await b.file.run(table.spent) == {id: 2 * 10**12 + 7}

    bench(scenario)
