"""Whether counts are loaded into BigQuery, and where to: MINUTEMARK_BIGQUERY."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from include.errors import MinutemarkError

SETTING = "MINUTEMARK_BIGQUERY"  # project.dataset
LOCATION = "MINUTEMARK_BIGQUERY_LOCATION"  # where to create a missing dataset, such as EU
_DATASET = re.compile(r"[a-z][a-z0-9.:-]*\.[A-Za-z0-9_]+")


class BigQueryError(MinutemarkError):
    """BigQuery is not set up, or a load failed. The message says where, what was found, and what to do."""


def dataset(environ: Mapping[str, str] = os.environ) -> str:
    """project.dataset. Raises BigQueryError if MINUTEMARK_BIGQUERY does not name a dataset."""
    value = environ.get(SETTING, "")
    if not _DATASET.fullmatch(value):
        raise BigQueryError(f"{SETTING} is {value!r}. Set it to a project and a dataset, such as my-project.lakehouse.")
    return value
