"""The parameters of a stream, handed to the driver in a file that only this user can read."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path

from include.connections import KAFKA, LAKE_WRITER, WAREHOUSE_ETL, Endpoint, as_variables
from include.pipelines import Pipeline

SECONDS = 690.0  # ten minutes, plus the time that a successor may need to start before its predecessor leaves
MESSAGES_PER_MICRO_BATCH = 50_000  # in all partitions: a few seconds of work, after which the offsets are committed
STORES = (LAKE_WRITER, WAREHOUSE_ETL, KAFKA)


@dataclass(frozen=True)
class Job:
    """A stream that runs for `seconds` or, with `to_the_end`, up to the end offsets that the topic has when it starts."""

    pipeline: Pipeline
    seconds: float
    to_the_end: bool
    checkpoints: str  # a location that Spark can write to; each query has a folder in it
    result: Path  # the summary, once the stream has ended
    stores: tuple[Endpoint, ...] = field(repr=False)
    kafka: dict[str, str] = field(repr=False)  # settings of Spark's clients, including the login

    @property
    def lake(self) -> Endpoint:
        """The account that executors write with."""
        return next(store for store in self.stores if store.conn_id == LAKE_WRITER)

    @classmethod
    def read(cls, file: Path) -> Job:
        """The job that `to_bytes` serialized. The file's folder is private: nobody else can have written the file."""
        return pickle.loads(file.read_bytes())

    def to_bytes(self) -> bytes:
        return pickle.dumps(self)

    def use_connections(self) -> None:
        """Give this process the connections, for the modules that look them up by their ids."""
        os.environ.update(as_variables(self.stores))
