"""The job's writes to the warehouse: Spark appends results that may be large; the driver inserts the final few rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from include.chunks import chunks

_BATCH_ROWS = 5_000
# A statement must fit the server's max_allowed_packet.
_ROWS_PER_PARAMETER, _CHARACTERS_PER_PARAMETER = 1_000, 2_000_000


class Warehouse:
    """Writes to the warehouse over JDBC. Connects in the background while the lake is read."""

    def __init__(self, spark: SparkSession, url: str, properties: Mapping[str, str]) -> None:
        self._jvm = spark._jvm
        self._url = url
        self._properties = dict(properties)
        self._connection = None
        self._error: Exception | None = None
        self._connecting = threading.Thread(target=self._connect)

    def __enter__(self) -> Warehouse:
        self._connecting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._connecting.join()
        if self._connection is not None:
            self._connection.close()

    def append(self, frame: DataFrame, table: str) -> None:
        """Write a frame; each partition is one transaction, and the primary key refuses repeated rows."""
        self._await_connection()
        # Formatting timestamps is nearly half of the JDBC driver's work for an insert: strings make it a third faster.
        columns = [
            F.col(field.name).cast("string").alias(field.name) if field.dataType == TimestampType() else field.name
            for field in frame.schema
        ]
        options = {"batchsize": str(_BATCH_ROWS), "isolationLevel": "READ_COMMITTED", **self._properties}
        frame.select(*columns).write.jdbc(self._url, table, mode="append", properties=options)

    def insert(self, table: str, columns: Mapping[str, str], rows: Sequence[Sequence[object]]) -> None:
        """Insert rows in one transaction; `columns` maps each column to its SQL type, in order.

        They are sent as JSON, up to a thousand in one parameter: setting them one by one takes a call into the JVM per value.
        """
        paths = ", ".join(f"{name} {kind} PATH '$[{i}]'" for i, (name, kind) in enumerate(columns.items()))
        names = ", ".join(columns)
        connection = self._await_connection()
        connection.setAutoCommit(False)
        statement = connection.prepareStatement(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM JSON_TABLE(?, '$[*]' COLUMNS ({paths})) AS given"
        )
        for chunk in chunks(map(json.dumps, rows), len, _ROWS_PER_PARAMETER, _CHARACTERS_PER_PARAMETER):
            statement.setString(1, f"[{','.join(chunk)}]")
            statement.executeUpdate()
        connection.commit()
        statement.close()

    def _await_connection(self):
        self._connecting.join()
        if self._error is not None:
            raise self._error
        return self._connection

    def _connect(self) -> None:
        try:
            properties = self._jvm.java.util.Properties()
            for name, value in self._properties.items():
                if name != "driver":
                    properties.setProperty(name, value)
            driver_class = reduce(getattr, self._properties["driver"].split("."), self._jvm)
            self._connection = driver_class().connect(self._url, properties)  # ty: ignore[not-callable]
        except Exception as error:
            self._error = error
