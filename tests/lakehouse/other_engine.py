"""What other engines write: lists of the positions of deleted rows, which the data files keep, and statistics."""

from __future__ import annotations

from datetime import datetime

import pyarrow
import pyarrow.parquet
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestWriter,
    ManifestWriterV2,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.statistics import PartitionStatisticsFile, StatisticsFile
from pyiceberg.table.update import SetPartitionStatisticsUpdate, SetStatisticsUpdate
from pyiceberg.table.update.snapshot import _FastAppendFiles

from include.lakehouse import table as tables


class _ManifestOfDeletes(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _RowDelta(_FastAppendFiles):
    """A commit of delete files, which pyiceberg can read but not write."""

    def new_manifest_writer(self, spec) -> ManifestWriter:
        schema = self._transaction.table_metadata.schema()
        return _ManifestOfDeletes(spec, schema, self.new_manifest_output(), self._snapshot_id, self._compression)


def delete_rows(table: Table, minute: datetime) -> None:
    """Delete the rows of a minute, which must all be in one file."""
    [task] = table.scan(row_filter=tables.within([minute])).plan_files()
    with table.io.new_input(task.file.file_path).open() as file:
        minutes = pyarrow.parquet.read_table(file)["minute"].to_pylist()
    positions = [position for position, at in enumerate(minutes) if at == minute]
    content = pyarrow.table(
        {"file_path": [task.file.file_path] * len(positions), "pos": pyarrow.array(positions, pyarrow.int64())}
    )
    path = f"{task.file.file_path}.deletes.parquet"
    with table.io.new_output(path).create() as file:
        pyarrow.parquet.write_table(content, file)
    deletes = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=task.file.partition,
        record_count=len(positions),
        file_size_in_bytes=len(table.io.new_input(path)),
    )
    deletes.spec_id = task.file.spec_id
    with table.transaction() as transaction, _RowDelta(Operation.OVERWRITE, transaction, table.io) as snapshot:
        snapshot.append_data_file(deletes)


def write_statistics(table: Table) -> None:
    """Write files of statistics of the newest snapshot: columns.puffin and partitions.parquet."""
    folder = f"{table.location()}/metadata"
    for name in ("columns.puffin", "partitions.parquet"):
        with table.io.new_output(f"{folder}/{name}").create() as file:
            file.write(b"PFA1")
    values = {"snapshot_id": table.current_snapshot().snapshot_id, "file_size_in_bytes": 4}
    of_columns = StatisticsFile(
        statistics_path=f"{folder}/columns.puffin", file_footer_size_in_bytes=1, blob_metadata=[], **values
    )
    of_partitions = PartitionStatisticsFile(statistics_path=f"{folder}/partitions.parquet", **values)
    with table.transaction() as transaction:
        transaction._apply(
            (
                SetStatisticsUpdate(statistics=of_columns),
                SetPartitionStatisticsUpdate(partition_statistics=of_partitions),
            )
        )
