-- What figures are of, as a JSON array.
CREATE TABLE dimensions (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;

-- `at` is the minute since 1970 at which the minute or the hour begins. A cell holds every figure: they are always read together.
CREATE TABLE minutes (at INTEGER NOT NULL, dimensions INTEGER NOT NULL, cell BLOB NOT NULL, PRIMARY KEY (at, dimensions)) STRICT, WITHOUT ROWID;
CREATE TABLE hours (at INTEGER NOT NULL, dimensions INTEGER NOT NULL, cell BLOB NOT NULL, PRIMARY KEY (at, dimensions)) STRICT, WITHOUT ROWID;
