"""The warehouse for the local commands: a read-only connection of the bi account."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from include import env_file
from include.connections import WAREHOUSE_BI
from include.errors import MinutemarkError
from include.warehouse.errors import is_driver_error
from include.warehouse.session import warehouse
from local import environment
from local.problems import Problem


@contextlib.contextmanager
def reader() -> Iterator:
    """A read-only connection of the bi account, in UTC, whose queries each see the newest commits.

    Raises MinutemarkError without `.local/env`, if the warehouse does not answer, or if a query in the block fails.
    """
    known = environment.read()
    if not known:
        raise Problem("Warehouse", ".local/env does not exist yet", "Run `make run` or `make services` first.")
    env_file.use(known)
    try:
        with warehouse(WAREHOUSE_BI) as connection:
            cursor = connection.cursor()
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            cursor.execute("SET SESSION autocommit = 1")
            yield connection
    except MinutemarkError:
        raise
    except Exception as error:
        if not is_driver_error(error):
            raise
        problem = f"cannot read the ledger: {error.args[-1]}"
        raise Problem(
            "Warehouse", problem, "Apply the schema: run `./minutemark schema` or the DAG minutemark_setup."
        ) from error
