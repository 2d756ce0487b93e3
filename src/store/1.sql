CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Times are milliseconds since the Unix epoch; those of tokens that people set are seconds.
CREATE TABLE gateways (
    id TEXT PRIMARY KEY,
    internal_id TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Rises when the stored answers of a gateway are to be forgotten. Of declared gateways too, and of deleted ones: they may come back.
CREATE TABLE cache_epochs (
    gateway_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stores (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    id TEXT PRIMARY KEY,
    store_id TEXT NOT NULL REFERENCES stores (id),
    name TEXT NOT NULL,
    comment TEXT,
    -- Sorted, with commas between.
    scopes TEXT NOT NULL,
    key_id TEXT NOT NULL,
    sealed BLOB NOT NULL,
    preview TEXT NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    UNIQUE (store_id, name)
) STRICT, WITHOUT ROWID;

-- Of gateways stored here and of those that the configuration file declares, which have no row to refer to.
CREATE TABLE provider_configs (
    id TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL,
    provider_slug TEXT NOT NULL,
    alias TEXT NOT NULL,
    default_config INTEGER NOT NULL,
    secret_id TEXT NOT NULL REFERENCES secrets (id),
    rate_limit REAL,
    rate_limit_period REAL NOT NULL,
    modified_at INTEGER NOT NULL,
    UNIQUE (gateway_id, provider_slug, alias)
) STRICT, WITHOUT ROWID;
CREATE INDEX provider_configs_of_secret ON provider_configs (secret_id);

CREATE TABLE custom_providers (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    enable INTEGER NOT NULL,
    beta INTEGER NOT NULL,
    base_url TEXT NOT NULL,
    -- A JSON object, sealed: it may hold keys.
    headers_key_id TEXT,
    headers BLOB,
    fields TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- `provider` is the id of a custom provider or the name of another.
CREATE TABLE prices (
    id TEXT PRIMARY KEY,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    model_rule TEXT NOT NULL,
    cost_type TEXT NOT NULL,
    enable INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    fields TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER custom_provider_deleted AFTER DELETE ON custom_providers BEGIN
    DELETE FROM prices WHERE provider = OLD.id;
END;

-- The gateway may be one that the configuration file declares and this file does not know: a trigger deletes instead of a
-- reference.
CREATE TABLE routes (
    id TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    UNIQUE (gateway_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE route_versions (
    id TEXT PRIMARY KEY,
    route_id TEXT NOT NULL REFERENCES routes (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    elements TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (route_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE route_deployments (
    id TEXT PRIMARY KEY,
    route_id TEXT NOT NULL REFERENCES routes (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    version_id TEXT NOT NULL REFERENCES route_versions (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    UNIQUE (route_id, number)
) STRICT, WITHOUT ROWID;
-- Deleting a version looks for its deployments.
CREATE INDEX route_deployments_of_version ON route_deployments (version_id);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    supplied_length INTEGER,
    disabled INTEGER NOT NULL,
    policies TEXT NOT NULL,
    condition TEXT,
    not_before INTEGER,
    expires_on INTEGER,
    issued_on INTEGER NOT NULL,
    modified_on INTEGER NOT NULL,
    last_used_on INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE domains (
    hostname TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Saved questions to the logs of a gateway; `filters` is a JSON array.
CREATE TABLE datasets (
    id TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL,
    name TEXT NOT NULL,
    enable INTEGER NOT NULL,
    filters TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    UNIQUE (gateway_id, name)
) STRICT, WITHOUT ROWID;

-- `datasets` is a JSON array of them as they were.
CREATE TABLE evaluations (
    id TEXT PRIMARY KEY,
    gateway_id TEXT NOT NULL,
    name TEXT NOT NULL,
    processed INTEGER NOT NULL,
    total_logs INTEGER NOT NULL,
    datasets TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX evaluations_of_gateway ON evaluations (gateway_id);
CREATE INDEX evaluations_waiting ON evaluations (created_at) WHERE processed = 0;

CREATE TABLE evaluation_results (
    id TEXT PRIMARY KEY,
    evaluation_id TEXT NOT NULL REFERENCES evaluations (id) ON DELETE CASCADE,
    evaluation_type_id TEXT NOT NULL,
    -- Its place among those of the evaluation.
    number INTEGER NOT NULL,
    result TEXT NOT NULL,
    status INTEGER NOT NULL,
    status_description TEXT NOT NULL,
    total_logs INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    modified_at INTEGER NOT NULL,
    UNIQUE (evaluation_id, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER gateway_deleted AFTER DELETE ON gateways BEGIN
    DELETE FROM routes WHERE gateway_id = OLD.id;
    DELETE FROM domains WHERE gateway_id = OLD.id;
    DELETE FROM datasets WHERE gateway_id = OLD.id;
    DELETE FROM evaluations WHERE gateway_id = OLD.id;
END;

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    info TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    token_id TEXT,
    token_name TEXT,
    address TEXT,
    interface TEXT NOT NULL,
    old TEXT,
    new TEXT
) STRICT;
CREATE INDEX audit_at ON audit (at);
