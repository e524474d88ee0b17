"""Records the stores of the previous version: `python -m tests.upgrade.record`, in a checkout that has that version's commit.

The version's own code makes and fills throw-away stores (history.py); what they hold is written to `former/` as statements,
so that the test needs no history of the repository. With `--rolling`, this version's set-up then runs, and the former version
tries to continue: the outcome is printed. To rehearse the upgrade from a later version, change FORMER to its commit,
adapt history.py to its modules, and record again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import sqlparse

from include import pipelines
from include.connections import LAKE_ADMIN, endpoint
from include.operations.setup import set_up
from include.warehouse.session import warehouse
from local import connections, throwaway
from local.servers import cassandra

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = HERE / "former"
# The newest commit before the lake's changed_days (ADR 27), partitions by range (ADR 24) and contributions of the shop (ADR
# 26): an upgrade from it goes through every migration of lake and warehouse that set-up has.
FORMER = "65c0532080681ff87c4eaeda90bc298dc5410ec3"
_KEYSPACES = ("minutemark", *(pipeline.keyspace for pipeline in pipelines.all_pipelines().values()))
_DATABASES = ("etl", *(pipeline.database for pipeline in pipelines.all_pipelines().values()))
_TABLES = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE' ORDER BY 1"
)
_STORED_COLUMNS = (
    "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
    "AND generation_expression IS NULL OR table_schema = %s AND table_name = %s AND generation_expression = '' "
    "ORDER BY ordinal_position"
)

_COMMENT = re.compile(r" COMMENT '(?:[^']|'')*'")  # no migration depends on a comment


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mm-former-") as name, throwaway.data_folder() as folder:
        tree = Path(name) / "former"
        subprocess.run(["git", "worktree", "add", "--detach", tree, FORMER], cwd=ROOT, check=True)
        try:
            (tree / ".local").symlink_to(ROOT / ".local")
            (tree / "tests" / "upgrade").mkdir()
            for module in ("__init__.py", "events.py", "history.py"):
                shutil.copy(HERE / module, tree / "tests" / "upgrade")
            with throwaway.mariadb_server(folder) as server, throwaway.cassandra_node(folder) as node:
                variables = {**server, **node, **connections.spark(throwaway.SPARK_MASTER)}
                os.environ |= variables
                run_former(tree)
                (FOLDER / "merge.sql").write_text("\n".join(_merge_of_the_shop(tree)) + "\n")
                (FOLDER / "lake.cql").write_text("\n".join(_lake()) + "\n")
                (FOLDER / "warehouse.sql").write_text("\n".join(_warehouse()) + "\n")
                if "--rolling" in sys.argv:
                    set_up()
                    run_former(tree, "still_running")
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    return 0


def run_former(tree: Path, *phase: str) -> None:
    """Run history.py with the modules of the former version, on the stores that the environment names."""
    environment: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "TZ": "UTC",
        "MINUTEMARK_INGEST": "",
        **{
            f"MINUTEMARK_PASSWORD_{name.upper()}": endpoint(name).password or ""
            for name in ("warehouse_etl", "warehouse_bi")
        },
    }
    subprocess.run([sys.executable, "-m", "tests.upgrade.history", *phase], cwd=tree, env=environment, check=True)


def _merge_of_the_shop(tree: Path) -> Iterator[str]:
    """The statements by which the former version replaces operations and hours, one on each line."""
    yield f"-- The shop's merge of {FORMER[:7]}, recorded by `python -m tests.upgrade.record`."
    text = (tree / "include" / "sql" / "ecommerce" / "merge.sql").read_text()
    for statement in sqlparse.split(sqlparse.format(text, strip_comments=True)):
        yield f"{_line(statement)};"


@contextlib.contextmanager
def lake_admin() -> Iterator:
    """A session of the lake's administrator that knows the schema, which the project's own sessions do not read."""
    account = endpoint(LAKE_ADMIN)
    cluster, session = cassandra.connect(account.port, account.login, account.password)
    try:
        yield session
    finally:
        cluster.shutdown()


def _lake() -> Iterator[str]:
    """Keyspaces, tables and rows, with the write timestamps of the touches, as CQL. One statement per line."""
    yield f"-- The lake of {FORMER[:7]}, recorded by `python -m tests.upgrade.record`."
    with lake_admin() as session:
        for keyspace in _KEYSPACES:
            meta = session.cluster.metadata.keyspaces[keyspace]
            yield f"{_line(meta.as_cql_query())};"
            for table in meta.tables.values():
                keys = ", ".join(column.name for column in table.partition_key)
                clustering = ", ".join(column.name for column in table.clustering_key)
                columns = ", ".join(
                    f"{column.name} {column.cql_type}{' STATIC' if column.is_static else ''}"
                    for column in table.columns.values()
                )
                comment = table.options.get("comment", "")
                key = f"PRIMARY KEY (({keys}), {clustering})"
                yield f"CREATE TABLE {keyspace}.{table.name} ({columns}, {key}) WITH comment = '{comment}';"
                for row in session.execute(f"SELECT JSON * FROM {keyspace}.{table.name}"):
                    text = row.json.replace("'", "''")
                    yield f"INSERT INTO {keyspace}.{table.name} JSON '{text}';"


def _warehouse() -> Iterator[str]:
    """Databases, tables and rows as SQL for MySQL and MariaDB. One statement per line; set-up makes the views."""
    yield f"-- The warehouse of {FORMER[:7]}, recorded by `python -m tests.upgrade.record`."
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        for database in _DATABASES:
            yield f"CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
            cursor.execute(_TABLES, (database,))
            for (table,) in cursor.fetchall():
                name = f"{database}.{table}"
                cursor.execute(f"SHOW CREATE TABLE {name}")
                definition = cursor.fetchone()[1].replace("CREATE TABLE ", f"CREATE TABLE {database}.", 1)
                yield f"{_line(_COMMENT.sub('', definition))};"
                cursor.execute(_STORED_COLUMNS, (database, table) * 2)
                columns = ", ".join(column for (column,) in cursor.fetchall())
                cursor.execute(f"SELECT {columns} FROM {name} ORDER BY {columns}")
                for row in cursor.fetchall():
                    values = ", ".join(conn.literal(value).decode() for value in row)
                    yield f"INSERT INTO {name} ({columns}) VALUES ({values});"


def _line(statement: str) -> str:
    return " ".join(statement.rstrip("; \n").split())


if __name__ == "__main__":
    sys.exit(main())
