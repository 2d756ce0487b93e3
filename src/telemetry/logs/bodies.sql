-- zstd frames, by the row of their entry.
CREATE TABLE bodies (row INTEGER PRIMARY KEY, request BLOB, response BLOB) STRICT;
