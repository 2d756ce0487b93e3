CREATE TABLE counters (
    name BLOB PRIMARY KEY,
    -- 0: requests, 1: pico-dollars.
    unit INTEGER NOT NULL,
    -- 0: by the clock, 1: back from now.
    technique INTEGER NOT NULL,
    -- Of the window, milliseconds.
    length INTEGER NOT NULL,
    -- Each bucket's number (8 bytes) and what was counted in it (16), the lowest byte first.
    buckets BLOB NOT NULL,
    -- Milliseconds since the Unix epoch from which on nothing of it counts.
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX counters_by_end ON counters (until);
