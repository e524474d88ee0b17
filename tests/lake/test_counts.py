"""Counts of lake minutes, as the reconcile compares them with the ledger."""

import zlib
from datetime import datetime

from include.lake.counts import minute_counts
from include.lake.writer import EventWriter
from tests.lake.conftest import event


def test_rows_and_checksum_of_every_asked_minute(recruitment, writer, reader):
    full = [event("2026-05-01 08:00:00", ev="1") for _ in range(25)]
    EventWriter(writer, recruitment).write([*full, event("2026-05-01 08:02:00", ev="1")])
    asked = [datetime(2026, 5, 1, 8, 0), datetime(2026, 5, 1, 8, 1)]
    assert minute_counts(reader, recruitment, asked) == {
        asked[0]: (25, sum(zlib.crc32(str(one.create_time).encode()) for one in full)),
        asked[1]: (0, 0),
    }
    assert minute_counts(reader, recruitment, []) == {}
