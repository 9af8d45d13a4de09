"""One fingerprint of the triggers and constraints by which the database may reject a row.

When it changes, work that a trigger or constraint stopped is worth another try.
"""

from sqlalchemy import Connection, bindparam, text

from recon_assets.database.tables import curtailment_records, historical_bitcoin_calculations
from recon_assets.domain.curtailment import fingerprint

CONSTRAINED_TABLES = (curtailment_records.name, historical_bitcoin_calculations.name)

_ON_SQLITE = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN :tables ORDER BY type, name"
_ON_POSTGRESQL = """
SELECT 'trigger', t.tgname, concat(pg_get_triggerdef(t.oid), t.tgenabled, p.prosrc)
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relname IN :tables AND pg_table_is_visible(c.oid)
UNION ALL
SELECT 'constraint', o.conname, pg_get_constraintdef(o.oid)
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
WHERE c.relname IN :tables AND pg_table_is_visible(c.oid)
ORDER BY 1, 2
"""


def constraints_fingerprint(connection: Connection) -> str:
    """A fingerprint of everything that the database checks when records or calculations are written."""
    query = text(_ON_SQLITE if connection.dialect.name == "sqlite" else _ON_POSTGRESQL)
    rows = connection.execute(query.bindparams(bindparam("tables", CONSTRAINED_TABLES, expanding=True)))
    return fingerprint([str(part) for part in row] for row in rows)
