"""The tables, as the steps that make them: a step is never changed once it was released, only followed by another.

``objects`` holds whatever has an id: ``kind`` says what it is, ``body`` is its Struct as JSON (which gets new fields with
defaults only, so that old rows can be read), ``number`` the order in which they were made. ``media`` has a row for each file
of the folder. Times are Unix seconds; without ``expires`` a row stays. ``usage`` has a row for each key, model and hour (of the
epoch) in which something was used: tokens, and a cost in whole units of the currency with the rest in its 10¹²th parts.

``items`` has a row for each item of a response (its ``part`` is ``input`` or ``output``) and of a conversation (``said``);
``body`` is the item as JSON, ``number`` their order. ``objects.previous`` is the response that one goes on from,
``objects.size`` the bytes of one with its items, where those are counted. ``held`` is what each owner has of both kinds: to
count ten thousand rows for each new one would take longer than to write it.

``keys`` has a row for each API key that was ever made, its SHA-256 and never the key; ``id`` is the beginning of that, as
``usage.key_id`` has it. ``scopes``, ``models`` and ``limits`` are JSON. ``version`` grows with each change of what a key may
do, over all keys, so that a server finds the changed ones; ``spent`` and ``last_used`` change without it.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE objects (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL,
            owner TEXT NOT NULL,
            status TEXT NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER,
            body BLOB NOT NULL
        )
        """,
        "CREATE INDEX objects_of_owner ON objects (kind, owner, number)",
        "CREATE INDEX objects_by_expiry ON objects (expires)",
        """
        CREATE TABLE media (
            name TEXT PRIMARY KEY,
            object TEXT REFERENCES objects (id) ON DELETE CASCADE,
            owner TEXT NOT NULL,
            type TEXT NOT NULL,
            size INTEGER NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER
        )
        """,
        "CREATE INDEX media_of_object ON media (object)",
        "CREATE INDEX media_by_expiry ON media (expires)",
    ),
    (
        """
        CREATE TABLE usage (
            key_id TEXT NOT NULL,
            model TEXT NOT NULL,
            hour INTEGER NOT NULL,
            requests INTEGER NOT NULL,
            prompt INTEGER NOT NULL,
            cached INTEGER NOT NULL,
            completion INTEGER NOT NULL,
            estimated INTEGER NOT NULL,
            cost INTEGER NOT NULL,
            cost_rest INTEGER NOT NULL,
            PRIMARY KEY (key_id, model, hour)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX usage_by_hour ON usage (hour)",
    ),
    (
        """
        CREATE TABLE keys (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            digest BLOB NOT NULL UNIQUE,
            name TEXT NOT NULL,
            scopes TEXT NOT NULL,
            models TEXT NOT NULL,
            limits TEXT NOT NULL,
            created INTEGER NOT NULL,
            expires INTEGER,
            revoked INTEGER,
            last_used INTEGER,
            spent INTEGER NOT NULL DEFAULT 0,
            spent_rest INTEGER NOT NULL DEFAULT 0,
            version INTEGER NOT NULL
        )
        """,
        "CREATE INDEX keys_by_version ON keys (version)",
    ),
    (
        "ALTER TABLE objects ADD COLUMN previous TEXT",
        "ALTER TABLE objects ADD COLUMN size INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE held (owner TEXT PRIMARY KEY, count INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID",
        """
        CREATE TRIGGER held_more AFTER INSERT ON objects WHEN NEW.kind IN ('response', 'conversation') BEGIN
            INSERT INTO held VALUES (NEW.owner, 1, NEW.size)
            ON CONFLICT (owner) DO UPDATE SET count = count + 1, bytes = bytes + NEW.size;
        END
        """,
        """
        CREATE TRIGGER held_changed AFTER UPDATE OF size ON objects WHEN NEW.kind IN ('response', 'conversation') BEGIN
            UPDATE held SET bytes = bytes + NEW.size - OLD.size WHERE owner = NEW.owner;
        END
        """,
        """
        CREATE TRIGGER held_less AFTER DELETE ON objects WHEN OLD.kind IN ('response', 'conversation') BEGIN
            UPDATE held SET count = count - 1, bytes = bytes - OLD.size WHERE owner = OLD.owner;
        END
        """,
        """
        CREATE TABLE items (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL,
            object TEXT NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
            owner TEXT NOT NULL,
            part TEXT NOT NULL,
            body BLOB NOT NULL
        )
        """,
        "CREATE INDEX items_of_object ON items (object, number)",
        "CREATE INDEX items_by_id ON items (owner, id)",
    ),
)
