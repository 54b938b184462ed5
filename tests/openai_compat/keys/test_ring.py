"""Which keys open the server, while it runs and other processes make, change and revoke them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import sqlite3
import stat

import pytest

from openai_compat.auth import hash_key
from openai_compat.config import Auth, Config, ConfigError, Server
from openai_compat.grants import ANYBODY, CLIENTS
from openai_compat.keys import table
from openai_compat.keys.file import KeyFile, has_usable_key
from openai_compat.keys.keeper import KeyKeeper
from openai_compat.keys.ring import Ring
from openai_compat.settings import check_exposure
from schemas.admin import CreateKey, Limits, UpdateKey


def test_a_key_of_the_configuration_may_do_what_anybody_may_and_has_an_id(bench) -> None:
    async def scenario(b) -> None:
        grant = b.find("sk-one")
        assert (grant.scopes, grant.models, grant.key_id) == (ANYBODY.scopes, (), hashlib.sha256(b"sk-one").hexdigest()[:16])
        assert b.find("sk-two") is None
        assert not b.path.exists()  # nothing is made before there is something to keep

    bench(scenario, keys=(hash_key("sk-one"),))


def test_a_key_that_another_process_makes_opens_a_server_that_was_open_and_closes_it_to_others(bench) -> None:
    async def scenario(b) -> None:
        assert not b.ring.exist
        made = await b.keeper.create(CreateKey(name="app", scopes=("chat",), models=("gpt*",), limits=Limits(budget=2.5)))
        await b.becomes(lambda: b.ring.exist)
        grant = b.find(made.secret)
        assert (grant.name, grant.scopes, grant.models, grant.limits.budget) == ("app", {"chat"}, ("gpt*",), 2.5)
        assert grant.key_id == made.key.id == hashlib.sha256(made.secret.encode()).hexdigest()[:16]
        assert b.find(made.secret[:-1]) is None
        assert b.find(made.key.id) is None

    bench(scenario)


def test_a_key_is_compared_as_a_whole_in_constant_time(bench, monkeypatch) -> None:
    """A hash with the same beginning, which is the key's public id, is another key's."""
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append((one, other)) or compare(one, other))

    async def scenario(b) -> None:
        digest = hashlib.sha256(b"sk-one").digest()
        assert b.ring.find(digest)
        for wrong in (digest[:8] + bytes(24), digest[:31] + bytes([digest[31] ^ 1]), digest[:8], digest + b"x"):
            assert b.ring.find(wrong) is None
        assert b.ring.find(bytes(32)) is None
        assert [one for one, _ in compared] == [digest] * 5

    bench(scenario, keys=(hash_key("sk-one"),))


def test_changes_and_revocations_by_another_process_are_taken_over(bench) -> None:
    async def scenario(b) -> None:
        one, two = [await b.keeper.create(CreateKey()) for _ in range(2)]
        await b.becomes(lambda: b.find(two.secret))
        await b.keeper.update(one.key.id, UpdateKey(scopes=("usage",), models=("m",)))
        await b.becomes(lambda: b.find(one.secret).models == ("m",))
        assert b.find(one.secret).scopes == {"usage"}
        await b.keeper.revoke(one.key.id)
        await b.becomes(lambda: b.find(one.secret) is None)
        assert b.find(two.secret).scopes == CLIENTS

    bench(scenario)


def test_what_other_processes_do_is_on_record_by_ids_only(bench, caplog) -> None:
    async def scenario(b) -> None:
        one = await b.keeper.create(CreateKey(name="somebody"))
        await b.becomes(lambda: b.find(one.secret))
        await b.keeper.update(one.key.id, UpdateKey(models=("m",)))
        await b.becomes(lambda: b.find(one.secret).models)
        await b.keeper.revoke(one.key.id)
        await b.becomes(lambda: not b.find(one.secret))
        lines = [record.getMessage() for record in caplog.records if record.name == "openai_compat.audit"]
        assert lines == [f"key {one.key.id} {what} by another process" for what in ("created", "updated", "revoked")]

    with caplog.at_level("INFO", logger="openai_compat.audit"):
        bench(scenario)


def test_the_server_stays_closed_when_its_last_key_is_revoked(bench) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey())
        await b.becomes(lambda: b.find(made.secret))
        await b.keeper.revoke(made.key.id)
        await b.becomes(lambda: b.find(made.secret) is None)
        assert b.ring.exist
        b.ring.configure(())
        assert b.ring.exist

    bench(scenario)


def test_it_starts_closed_where_all_that_is_kept_opens_nothing_any_more(bench) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey())
        await b.keeper.revoke(made.key.id)
        await b.ring.start()
        assert b.ring.exist
        assert not has_usable_key(b.config)

    bench(scenario, started=False)


def test_a_server_that_others_can_reach_is_closed_from_the_first_moment() -> None:
    assert Ring(Config(server=Server(host="0.0.0.0"))).exist
    assert not Ring(Config(server=Server(host="127.0.0.1"))).exist


def test_a_key_ends_at_its_expiry_without_anybody_looking(bench) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey(expires_at=int(b.clock.now) + 60))
        await b.becomes(lambda: b.find(made.secret))
        b.clock.now += 59
        assert b.find(made.secret)
        b.clock.now += 1
        assert b.find(made.secret) is None
        await b.keeper.update(made.key.id, UpdateKey(expires_at=None))
        await b.becomes(lambda: b.find(made.secret))

    bench(scenario)


def test_a_new_configuration_brings_its_own_keys_and_leaves_the_others(bench) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey())
        await b.becomes(lambda: b.find(made.secret))
        b.ring.configure((hash_key("sk-two"),))
        assert b.find("sk-one") is None
        assert b.find("sk-two")
        assert b.find(made.secret)

    bench(scenario, keys=(hash_key("sk-one"),))


def test_when_a_key_was_last_used_is_written_in_the_end(bench) -> None:
    async def scenario(b) -> None:
        used, unused = [await b.keeper.create(CreateKey()) for _ in range(2)]
        await b.becomes(lambda: b.find(unused.secret[:-1] + "!") is None and b.find(used.secret))
        b.clock.now += 500
        b.find(used.secret)
        await b.ring.close()
        assert (await b.keeper.get(used.key.id)).last_used == b.clock.now
        assert (await b.keeper.get(unused.key.id)).last_used is None

    bench(scenario)


def test_what_has_nothing_to_do_with_rights_makes_no_key_be_read_again(bench) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey())
        await b.ring.refresh()
        await b.file.run(lambda connection: table.spend(connection, {made.key.id: 5}))
        before = b.find(made.secret)
        await b.ring.refresh()
        assert b.find(made.secret) is before

    bench(scenario, interval=3600.0)


def test_an_older_copy_of_the_file_that_is_put_back_counts_whole(bench, tmp_path) -> None:
    async def scenario(b) -> None:
        old = await b.keeper.create(CreateKey())
        with (
            contextlib.closing(sqlite3.connect(b.path)) as kept,
            contextlib.closing(sqlite3.connect(tmp_path / "backup")) as copy,
        ):
            kept.backup(copy)
        new = await b.keeper.create(CreateKey())
        await b.becomes(lambda: b.find(new.secret))
        await b.file.close()
        for end in ("-wal", "-shm"):
            b.path.with_name(b.path.name + end).unlink()
        (tmp_path / "backup").replace(b.path)
        await b.becomes(lambda: b.find(new.secret) is None)
        assert b.find(old.secret)

    bench(scenario)


def test_it_does_not_start_with_a_file_that_cannot_be_read(bench) -> None:
    async def scenario(b) -> None:
        b.path.parent.mkdir()
        b.path.write_bytes(b"no database" * 1000)
        with pytest.raises(ConfigError, match="API keys may be kept there"):
            await b.ring.start()
        with pytest.raises(ConfigError, match="cannot be used"):
            has_usable_key(b.config)

    bench(scenario, started=False)


def test_it_does_not_start_with_a_row_that_it_cannot_understand(bench) -> None:
    async def scenario(b) -> None:
        await b.keeper.create(CreateKey())
        await b.file.run(lambda connection: connection.execute("UPDATE keys SET scopes = '[\"root\"]'"))
        with pytest.raises(ConfigError, match="damaged"):
            await b.ring.start()

    bench(scenario, started=False)


def test_a_file_that_turns_up_damaged_closes_an_open_server(bench, caplog) -> None:
    async def scenario(b) -> None:
        assert not b.ring.exist
        b.path.parent.mkdir()
        b.path.write_bytes(b"no database" * 1000)
        await b.becomes(lambda: b.ring.exist)
        await asyncio.sleep(0.1)

    bench(scenario)
    assert caplog.text.count("changes of API keys cannot be read") == 1


def test_keys_in_force_stay_so_while_the_file_is_out_of_reach(bench) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey())
        await b.becomes(lambda: b.find(made.secret))
        await b.file.close()
        b.path.unlink()
        await asyncio.sleep(0.1)
        assert b.find(made.secret)

    bench(scenario)


def test_a_place_that_cannot_be_looked_at_closes_an_open_server_which_goes_on_looking(bench, caplog) -> None:
    """Root's first key lies in a folder that the server's user cannot open: the system's error is another than "not there"."""

    async def scenario(b) -> None:
        loop = b.path.parent
        loop.symlink_to(loop)
        await b.becomes(lambda: b.ring.exist)
        assert f"{b.path} cannot be used" in caplog.text
        for of_the_start in (has_usable_key, check_exposure):
            with pytest.raises(ConfigError, match="cannot be used"):
                of_the_start(b.config)
        with pytest.raises(ConfigError, match="cannot be used"):
            await b.keeper.page(after=None, limit=1)
        loop.unlink()
        made = await b.keeper.create(CreateKey())
        await b.becomes(lambda: b.find(made.secret))

    bench(scenario)


def test_only_hashes_are_in_the_file_which_is_the_user_s_alone(bench) -> None:
    async def scenario(b) -> None:
        made = await b.keeper.create(CreateKey(name="app"))
        await b.file.close()
        content = b"".join(path.read_bytes() for path in b.path.parent.iterdir())
        assert b"app" in content
        assert made.secret.encode() not in content
        assert made.secret[3:20].encode() not in content
        assert stat.S_IMODE(b.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(b.path.parent.stat().st_mode) == 0o700

    bench(scenario, started=False)


def test_without_a_place_that_lasts_only_configured_keys_are_known() -> None:
    ring = Ring(Config(server=Server(port=0), auth=Auth(keys=(hash_key("sk-one"),))))
    with pytest.raises(ConfigError, match=r"storage\.dir"):
        ring.keeper()

    async def scenario() -> None:
        await ring.start()
        await ring.close()

    asyncio.run(scenario())


def test_many_processes_may_begin_the_file_at_the_same_moment(bench) -> None:
    async def scenario(b) -> None:
        files = [KeyFile(b.path) for _ in range(8)]
        await asyncio.gather(*(KeyKeeper(file).create(CreateKey()) for file in files))
        for file in files:
            await file.close()
        with contextlib.closing(sqlite3.connect(b.path)) as connection:
            counts = connection.execute("SELECT count(*), count(DISTINCT version), max(version) FROM keys").fetchone()
        assert counts == (8, 8, 8)

    bench(scenario, started=False)
