"""Errors in the processes of an import."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from cassandra.protocol import OverloadedErrorMessage

from include.files import parallel_writer
from include.lake.errors import LakeError


class Row(NamedTuple):
    line: int


def overload(row: Row):
    raise OverloadedErrorMessage(OverloadedErrorMessage.error_code, "too many hints in flight", None)


def test_an_overloaded_node_is_reported_by_a_process_of_an_import(recruitment, writer, monkeypatch):
    monkeypatch.setattr(parallel_writer, "SINGLE_PROCESS_CHUNKS", 0)
    with pytest.raises(LakeError, match="connection lake_writer.*too many hints in flight.*Check its load"):
        list(parallel_writer.write_chunks([[Row(1)]], overload, recruitment, writer))
