"""The warehouse for the local commands: a read-only connection of the bi account."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from include import env_file
from local import environment
from local.problems import Problem


@contextlib.contextmanager
def reader() -> Iterator:
    """A read-only connection of the bi account, in UTC.

    Raises Problem without `.local/env`, if the warehouse does not answer, or if a query in the block fails.
    """
    import MySQLdb

    known = environment.read()
    if not known:
        raise Problem("Warehouse", ".local/env does not exist yet", "Run `make run` or `make services` first.")
    env_file.use(known)
    from include.connections import endpoint

    account = endpoint("warehouse_bi")
    try:
        connection = MySQLdb.connect(
            host=account.host,
            port=account.port or 3306,
            user=account.login,
            passwd=account.password or "",
            charset="utf8mb4",
            connect_timeout=5,
            autocommit=True,
        )
    except MySQLdb.Error as error:
        raise Problem(
            f"Warehouse on {account.host}:{account.port}, as {account.login}",
            f"cannot connect: {error.args[-1]}",
            "Check that it is running (`make status`), and that .local/env has its password.",
        ) from error
    try:
        cursor = connection.cursor()
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
        yield connection
    except MySQLdb.Error as error:
        problem = f"cannot read the ledger: {error.args[-1]}"
        raise Problem(
            "Warehouse", problem, "Apply the schema: run `./minutemark schema` or the DAG minutemark_setup."
        ) from error
    finally:
        connection.close()
