"""Whether there is a lakehouse, and where: MINUTEMARK_LAKEHOUSE and connection lakehouse_catalog."""

from __future__ import annotations

import os
from collections.abc import Mapping

from include.errors import MinutemarkError

SETTING = "MINUTEMARK_LAKEHOUSE"  # where the files are, as an fsspec URL: file:///data/lakehouse, gs://bucket/folder
CATALOG = "lakehouse_catalog"  # Airflow connection: of type postgres, or http for a REST catalog


class LakehouseError(MinutemarkError):
    """The lakehouse is not set up, or refused a request. The message says where, what was found, and what to do."""


def is_on(environ: Mapping[str, str] = os.environ) -> bool:
    return bool(environ.get(SETTING))


def location(environ: Mapping[str, str] = os.environ) -> str:
    """The URL of the folder or bucket. Raises LakehouseError if MINUTEMARK_LAKEHOUSE is not a URL."""
    url = environ.get(SETTING, "").rstrip("/")
    if "://" not in url:
        raise LakehouseError(
            f"{SETTING} is {url!r}. Set it to the folder or bucket of the lakehouse, such as file:///data/lakehouse."
        )
    return url
