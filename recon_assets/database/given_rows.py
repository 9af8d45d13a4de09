"""Rows of ours that a query of the database can join.

PostgreSQL gets them as arrays inside the query, so that a reader needs neither the right to make temporary tables nor a
server that can be written to. SQLite, which needs no right for a temporary table, gets one, with its index.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ARRAY, Connection, FromClause, Table, bindparam, column, func, insert


@contextmanager
def given_rows(connection: Connection, table: Table, rows: Collection[Mapping[str, Any]]) -> Iterator[FromClause]:
    """The rows as a relation with the columns of `table`, which must be declared TEMPORARY, inside the `with` block.

    Several relations of one name may not be given at once. After an error the transaction must be rolled back.
    """
    if connection.dialect.name == "postgresql":
        arrays = [
            bindparam(None, [row.get(name) for row in rows], type_=ARRAY(of.type)) for name, of in table.c.items()
        ]
        given = func.unnest(*arrays).table_valued(*(column(name, of.type) for name, of in table.c.items()))
        yield given.render_derived(name=table.name)
        return
    table.create(connection, checkfirst=False)
    if rows:
        connection.execute(insert(table), list(rows))
    yield table
    table.drop(connection)
