"""The tables, as the steps that make them: a step is never changed once it was released, only followed by another.

``objects`` holds whatever has an id: ``kind`` says what it is, ``body`` is its Struct as JSON (which gets new fields with
defaults only, so that old rows can be read), ``number`` the order in which they were made. ``media`` has a row for each file
of the folder. Times are Unix seconds; without ``expires`` a row stays.
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
)
