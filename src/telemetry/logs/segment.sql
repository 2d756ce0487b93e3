CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE counts (gateway TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, rows INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Models, paths and the like. A text may stand here more than once.
CREATE TABLE names (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, text TEXT NOT NULL) STRICT;
CREATE TABLE metadata (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
CREATE TABLE events (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;

-- Narrow rows in the order in which they are asked for: a filter that no index serves reads them all.
CREATE TABLE logs (
    gateway INTEGER NOT NULL,
    id BLOB NOT NULL,
    success INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    provider INTEGER NOT NULL,
    model INTEGER NOT NULL,
    status INTEGER NOT NULL,
    tokens_in INTEGER,
    tokens_out INTEGER,
    cost INTEGER,
    duration INTEGER NOT NULL,
    feedback INTEGER,
    metadata INTEGER,
    path INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    user_agent INTEGER,
    model_type INTEGER,
    request_type INTEGER,
    request_content_type INTEGER,
    response_content_type INTEGER,
    event INTEGER,
    step INTEGER NOT NULL,
    score REAL,
    row INTEGER NOT NULL,
    PRIMARY KEY (gateway, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE details (row INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
