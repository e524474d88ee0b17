"""One life of a stream: what the process that submits it hands to its driver, in a file that only this user can read."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path

from include.connections import KAFKA, LAKE_WRITER, WAREHOUSE_ETL, Endpoint, as_variables
from include.pipelines import Pipeline

SECONDS = 690.0  # ten minutes, and as long again as a successor may need to come up before its predecessor leaves
MESSAGES_PER_BATCH = 50_000  # of all partitions: a few seconds of work, after which the group's offsets move
STORES = (LAKE_WRITER, WAREHOUSE_ETL, KAFKA)


@dataclass(frozen=True)
class Job:
    """A life: until `seconds` are over or, with `to_the_end`, what the topic has at its start."""

    pipeline: Pipeline
    seconds: float
    to_the_end: bool
    checkpoints: str  # a location of Spark's; the queries of this life have folders in it
    result: Path  # the summary, once the life is over
    stores: tuple[Endpoint, ...] = field(repr=False)
    kafka: dict[str, str] = field(repr=False)  # of Spark's clients, its login among them

    @property
    def lake(self) -> Endpoint:
        """The account that executors write with."""
        return next(store for store in self.stores if store.conn_id == LAKE_WRITER)

    @classmethod
    def read(cls, file: Path) -> Job:
        """The job that `to_bytes` made. Its folder is private: nobody else can have written it."""
        return pickle.loads(file.read_bytes())

    def to_bytes(self) -> bytes:
        return pickle.dumps(self)

    def use_connections(self) -> None:
        """Give this process the connections, for the modules that look them up by their ids."""
        os.environ.update(as_variables(self.stores))
