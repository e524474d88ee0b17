"""Imports: a file of events or of a dimension, or a flat Cassandra table. `./minutemark import` and the DAG
minutemark_import call this.

Rejected rows are kept with their reasons. A stopped import of events resumes where it was stopped; an import of a
dimension starts over. A finished import that is started again imports everything again, which counts no row twice, and
validates rejected rows again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from include import pipelines
from include.chunks import chunks
from include.connections import LAKE_READER, LAKE_WRITER, WAREHOUSE_ETL, endpoint
from include.files import file_format, parallel_writer
from include.files.compressed_file import Damage
from include.files.dimension_rows import dimension_of, typed_rows
from include.files.flat_table import FIRST_TOKEN, LAST_TOKEN, FlatRow, FlatTable, flat_table
from include.files.import_log import MAX_REJECTED, ImportLog, shortfall
from include.files.import_root import OpenedFile
from include.files.json_events import event_reader
from include.files.readers import Occurrences, TableEvents, check_header, column_lines, names_of
from include.files.record_files import FileRefused, Record, open_records
from include.files.survey import checked_fingerprint
from include.lake import change_log
from include.lake.admission import ClosedRows, Refused
from include.lake.presence import Presence
from include.lake.schema import check_table
from include.lake.session import lake, translate_errors
from include.lake.writer import Event
from include.pipelines import Pipeline
from include.progress_log import Bar
from include.warehouse.session import warehouse

log = logging.getLogger(__name__)

_ROWS_PER_CHUNK = 4_000
_VALUES_SHOWN = 10
_CHARACTERS_PER_CHUNK = 8_000_000
_SAMPLE_SIZES = (200, 2)  # rows to look up from the first chunk, and from each later one: too few to slow the import


@dataclass
class ImportSummary:
    """What an import did; `written` and `rejected` include what it did before it was resumed."""

    source: str
    target: str
    description: str = ""  # compression and format of a file
    left_out: int = 0  # bytes after the end of the compressed data
    damage: Damage | None = None  # of the file: what follows it was not read
    looked_up: int = 0  # events that were looked up in the lake before they were written
    known: int = 0  # those of them that were already in the lake
    written: int = 0
    rejected: int = 0
    minutes: set[datetime] = field(default_factory=set)  # touched by this call
    closed: ClosedRows = field(default_factory=ClosedRows)  # of this call
    resumed_at: int | None = None
    unknown_columns: tuple[str, ...] = ()
    missing_columns: tuple[str, ...] = ()
    ignored_columns: tuple[str, ...] = ()  # of a dimension's file
    unreadable: list[str] = field(default_factory=list)  # values of a dimension that are stored as null
    seconds: float = 0.0
    max_rejected: float = MAX_REJECTED  # percent

    @property
    def problem(self) -> str | None:
        """Why the import counts as failed; None if it does not."""
        return shortfall(self.written, self.rejected, self.max_rejected, self.damage.problem if self.damage else None)

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.description}."] if self.description else []
        lines.append(
            f"{self.source} into {self.target}: {self.written} rows written, {self.rejected} rejected, "
            f"{self.seconds:.1f} s."
        )
        if self.known:
            lines.append(
                f"Of {self.looked_up} rows that were looked up before writing, {self.known} were in the lake already. "
                "They count once."
            )
        if self.left_out:
            lines.append(f"{self.left_out} bytes after the end of the compressed data were ignored.")
        if self.minutes:
            lines.append(f"{len(self.minutes)} minutes touched, {min(self.minutes)} to {max(self.minutes)} UTC.")
        if self.resumed_at is not None:
            lines.append(f"It resumed after position {self.resumed_at}, where it had been stopped.")
        lines += self.closed.lines()
        lines += column_lines("source", self.unknown_columns, self.missing_columns)
        if self.ignored_columns:
            lines.append(f"Columns that are not imported: {', '.join(self.ignored_columns)}.")
        if self.unreadable:
            shown = "; ".join(self.unreadable[:_VALUES_SHOWN])
            more = f"; and {len(self.unreadable) - _VALUES_SHOWN} more" if len(self.unreadable) > _VALUES_SHOWN else ""
            number = len(self.unreadable)
            values = "1 value cannot be read and is" if number == 1 else f"{number} values cannot be read and are"
            lines.append(f"Warning: {values} stored as null: {shown}{more}.")
        if self.rejected:
            lines.append("Rejected rows and their reasons: SELECT * FROM etl.rejected_summary WHERE origin = 'import'.")
        return "\n".join(lines)


def import_events(
    pipeline: Pipeline, path: str | Path | OpenedFile, *, encoding: str = "", format_words: str = ""
) -> ImportSummary:
    """Write the events of a file (CSV or JSON lines, compressed or not) into the lake.

    The file must have `create_time` or the pipeline's time column, and at least one declared field. `encoding` and
    `format_words` say how to read it.

    Raises FileRefused before anything is written if the file cannot hold the pipeline's events; a bad line is rejected alone.
    """
    path, started = _as_path(path), time.monotonic()
    stated_format = file_format.format_from_options(encoding, format_words)
    digest, damage = checked_fingerprint(path)
    with (
        open_records(path, names_of(pipeline), stated_format, damage) as file,
        lake(LAKE_READER) as lookup,
        lake(LAKE_WRITER) as session,
        warehouse(WAREHOUSE_ETL) as conn,
    ):
        unknown, missing = check_header(path, file.header, pipeline)
        check_table(session, pipeline)
        imports = ImportLog(conn, pipeline.name, digest, path.name)
        progress = imports.begin()
        summary = ImportSummary(str(path), pipeline.lake_table, file.description)
        summary.unknown_columns, summary.missing_columns = unknown, missing
        summary.resumed_at = progress.position if progress.resumed else None
        reader = event_reader(file, pipeline, change_log.clock(session))
        with (
            Occurrences(reader.fields_without_id, pipeline) as occurrences,
            Bar(f"{path.name} into {pipeline.lake_table}", path.stat().st_size) as bar,
        ):
            # From the beginning, even when the import is resumed: equal rows before the position are counted.
            records = occurrences.numbered(file.records())
            _write_all(
                (record for record in records if record.line > progress.position),
                reader.read,
                lambda record: record.end_line,
                session,
                lookup,
                pipeline,
                imports,
                summary,
                lambda _: bar.at(file.position()),
            )
        summary.left_out, summary.damage = file.compression.left_out, damage
        return _finish_import(summary, imports, started)


def import_table(pipeline: Pipeline, name: str) -> ImportSummary:
    """Copy a table that include/files/flat_table.py can read, named keyspace.table, into the pipeline's lake table.

    Reads with lake_reader, which needs SELECT on that table. Rows that arrive during the copy may be left out: run it again.
    """
    started = time.monotonic()
    with (
        lake(LAKE_READER) as source,
        lake(LAKE_WRITER) as session,
        warehouse(WAREHOUSE_ETL) as conn,
    ):
        with translate_errors(endpoint(LAKE_READER)):
            table = flat_table(source, pipeline, name)
        check_table(session, pipeline)
        imports = ImportLog(conn, pipeline.name, name, name, first_position=FIRST_TOKEN)
        progress = imports.begin()
        summary = ImportSummary(name, pipeline.lake_table, unknown_columns=table.unknown, missing_columns=table.missing)
        summary.resumed_at = progress.position if progress.resumed else None
        reader = TableEvents(pipeline, change_log.clock(session))
        with Bar(f"{name} into {pipeline.lake_table}", LAST_TOKEN - FIRST_TOKEN, unit="token") as bar:
            _write_all(
                _explained_rows(table, source, progress.position),
                reader.read,
                lambda row: row.token,
                session,
                source,
                pipeline,
                imports,
                summary,
                lambda token: bar.at(token - FIRST_TOKEN),
            )
        return _finish_import(summary, imports, started)


def _explained_rows(table: FlatTable, source, from_token: int) -> Iterator[FlatRow]:
    """The table's rows. Errors while they are read name the reader's connection; errors of the code that uses them do not."""
    with translate_errors(endpoint(LAKE_READER)):
        yield from table.rows(source, from_token)


def import_dimension(
    table: str,
    path: str | Path | OpenedFile,
    *,
    pipeline: Pipeline | None = None,
    encoding: str = "",
    format_words: str = "",
) -> ImportSummary:
    """Update a dimension, such as `job`, and the facts that refer to it, from a file."""
    from include.warehouse.dimensions import import_dimension as upsert

    path, started = _as_path(path), time.monotonic()
    owner, dimension = dimension_of(table, pipeline)
    stated_format = file_format.format_from_options(encoding, format_words)
    digest, damage = checked_fingerprint(path)
    with open_records(path, dimension.columns, stated_format, damage) as file, warehouse(WAREHOUSE_ETL) as conn:
        missing_columns = [column for column in dimension.columns if column not in file.header]
        if missing_columns:
            raise FileRefused(
                f"{path}: it lacks columns that {dimension.table} needs: {', '.join(missing_columns)}. "
                f"The first line of a CSV must name {', '.join(dimension.columns)}: add or rename columns."
            )
        imports = ImportLog(conn, owner.name, digest, path.name, dimension=dimension.name)
        imports.begin(again=True)
        refused: list[Refused] = []
        unreadable: list[str] = []
        with Bar(f"{path.name} into {dimension.table}", path.stat().st_size) as bar:
            rows = typed_rows(
                conn,
                dimension,
                file,
                bar.over(file.records(), file.position),
                refused,
                unreadable,
                owner.null_words,
            )
            written = upsert(conn, dimension, rows)
        imports.advance(0, written, refused)
        summary = ImportSummary(
            str(path), dimension.table, file.description, file.compression.left_out, unreadable=unreadable
        )
        summary.damage = damage
        summary.ignored_columns = tuple(column for column in file.header if column not in dimension.columns)
        return _finish_import(summary, imports, started)


def _as_path(path: str | Path | OpenedFile) -> Path:
    """The path as a Path: an OpenedFile has the methods of Path that readers use."""
    return cast(Path, Path(path) if isinstance(path, str) else path)


def _write_all(
    rows: Iterable,
    read: parallel_writer.RowReader,
    position_of: Callable[[Any], int],
    session,
    lookup,
    pipeline: Pipeline,
    imports: ImportLog,
    summary: ImportSummary,
    on_position: Callable[[int], None],
) -> None:
    """Write chunk by chunk: events, then their minutes, and only then the position, so that a kill loses nothing."""
    with translate_errors(endpoint(LAKE_READER)):  # else an error would name the writer's connection
        presence = Presence(lookup, pipeline)
    checked_chunks = _look_up_samples(
        chunks(rows, _characters_of, _ROWS_PER_CHUNK, _CHARACTERS_PER_CHUNK), read, presence, summary
    )
    for chunk, outcome in parallel_writer.write_chunks(checked_chunks, read, pipeline, session):
        summary.minutes |= outcome.minutes
        summary.closed.add(outcome.refused)
        position = position_of(chunk[-1])
        imports.advance(position, outcome.events, outcome.refused)
        on_position(position)


def _look_up_samples(
    chunks_of_rows: Iterable[list],
    read: parallel_writer.RowReader,
    presence: Presence,
    summary: ImportSummary,
) -> Iterator[list]:
    """The chunks; a few rows of each are looked up in the lake before it is written.

    The result is for the summary only, so a partition that cannot be read does not stop the import.
    """

    def leave_out(unread: list[Event], _: Exception) -> None:
        summary.looked_up -= len(unread)
        summary.known -= len(unread)

    sample_size, later_size = _SAMPLE_SIZES
    for chunk in chunks_of_rows:
        sample = chunk[:: -(-len(chunk) // sample_size)]
        events = [event for row in sample if isinstance(event := read(row), Event)]
        with translate_errors(endpoint(LAKE_READER)):
            absent = presence.absent(events, leave_out)
        summary.looked_up += len(events)
        summary.known += len(events) - len(absent)
        sample_size = later_size
        yield chunk


def _characters_of(row: Record | FlatRow) -> int:
    texts = row.fields if isinstance(row, Record) else row.values.values()
    return sum(map(len, filter(None, texts)))


def _finish_import(summary: ImportSummary, imports: ImportLog, started: float) -> ImportSummary:
    imports.finish()
    summary.written, summary.rejected = imports.progress.rows_written, imports.progress.rows_rejected
    summary.seconds = time.monotonic() - started
    log.info("%s", summary)
    return summary


def run_import(
    pipeline: str | None = None,
    table: str | None = None,
    file: str | OpenedFile | None = None,
    source: str | None = None,
    encoding: str | None = None,
    format_words: str | None = None,
    max_rejected: float = MAX_REJECTED,
) -> ImportSummary:
    """Import a file of events or of the dimension `table`, or the flat Cassandra table `source`."""
    owner = pipelines.get(pipeline) if pipeline else None
    format_options = {"encoding": encoding or "", "format_words": format_words or ""}
    if table and file and not source:
        summary = import_dimension(table, file, pipeline=owner, **format_options)
    elif owner and file and not source:
        summary = import_events(owner, file, **format_options)
    elif owner and source and not file:
        summary = import_table(owner, source)
    else:
        raise FileRefused(
            "It is unclear what to import. Set `pipeline` and `file` for events, `table` and `file` for a dimension, or "
            "`pipeline` and `from` for a flat Cassandra table."
        )
    summary.max_rejected = max_rejected
    return summary
