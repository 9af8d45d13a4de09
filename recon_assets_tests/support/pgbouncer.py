"""A pgbouncer in front of a PostgreSQL server, for one test."""

import os
import subprocess
from pathlib import Path
from typing import Self

import psycopg
from sqlalchemy import make_url

from recon_assets_tests.support.postgres import PostgresServer
from recon_assets_tests.support.serving import free_port, wait_until

SETTINGS = """
[databases]
* = host={host} port={port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
pool_mode = {mode}
default_pool_size = {size}
auth_type = any
"""
# Until told to stop, or until the test process is gone: its end of the pipe closes however it died.
RUN = '"$@" & read -r _; kill $!; wait'


class Pgbouncer:
    """A pooler that any user may use, for every database of a server; its log is in the folder.

    The server has at most `size` connections per database; in the mode "transaction" each transaction gets any of them.
    """

    def __init__(self, server: PostgresServer, folder: Path, mode: str = "session", size: int = 20) -> None:
        self._port = free_port()
        self._log = folder / "pgbouncer.log"
        self._settings = folder / "pgbouncer.ini"
        behind = make_url(server.url("postgres"))
        self._settings.write_text(
            SETTINGS.format(host=behind.host, port=behind.port, own_port=self._port, mode=mode, size=size),
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        # It refuses to be root, but changes its user after it has read its settings.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", RUN, "sh", "pgbouncer", *user, str(self._settings)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(self._is_up)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def url(self, database: str) -> str:
        """The address of a database of the server, through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def transactions(self, database: str) -> int:
        """How many transactions on a database went through the pooler."""
        with psycopg.connect(self.url("pgbouncer"), autocommit=True) as console:
            cursor = psycopg.ClientCursor(console).execute("SHOW STATS_TOTALS")
            assert cursor.description
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return sum(int(row["xact_count"]) for row in rows if row["database"] == database)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True
