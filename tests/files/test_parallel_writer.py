"""Errors in the processes of an import."""

from __future__ import annotations

import multiprocessing
from typing import NamedTuple

import pytest
from cassandra.protocol import OverloadedErrorMessage

from include.files import parallel_writer
from include.lake.admission import Refused
from include.lake.errors import LakeError


class Row(NamedTuple):
    line: int


def overload(row: Row) -> Refused:
    """In a child process, raise the error of an overloaded node; in the parent, refuse the row."""
    if multiprocessing.parent_process() is None:
        return Refused(str(row.line), "not an event", "")
    raise OverloadedErrorMessage(OverloadedErrorMessage.error_code, "too many hints in flight", None)


def test_an_overloaded_node_is_reported_by_a_process_of_an_import(recruitment, writer):
    chunks = [[Row(number)] for number in range(parallel_writer.SINGLE_PROCESS_CHUNKS + 1)]
    with pytest.raises(LakeError, match="connection lake_writer.*too many hints in flight.*Check its load"):
        list(parallel_writer.write_chunks(chunks, overload, recruitment, writer))
