"""The file of an hour's counts: where it is, and which hour and version it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from include.lakehouse.settings import location
from include.pipelines import Pipeline, all_pipelines

_PATH = re.compile(r"/hourly/(?P<table>[^/]+)/(?P<hour>\d{4}-\d\d-\d\dT\d\d)/(?P<version>\d+)\.parquet")
_HOUR = "%Y-%m-%dT%H"


def folder_of(pipeline: Pipeline) -> str:
    """The URL of the folder that holds the pipeline's hourly files.

    Raises LakehouseError if MINUTEMARK_LAKEHOUSE is not a URL.
    """
    return f"{location()}/hourly/{pipeline.lakehouse.table}"


@dataclass(frozen=True)
class HourFile:
    """One version of the counts of an hour."""

    pipeline: Pipeline
    hour: datetime
    version: int
    url: str

    @classmethod
    def of(cls, pipeline: Pipeline, hour: datetime, version: int) -> HourFile:
        """The file in the lakehouse. Raises LakehouseError if MINUTEMARK_LAKEHOUSE is not a URL."""
        return cls(pipeline, hour, version, f"{folder_of(pipeline)}/{hour:{_HOUR}}/{version}.parquet")

    @classmethod
    def at(cls, url: str) -> HourFile | None:
        """The file at a URL; None if it is not an hour's file of this lakehouse, or no pipeline declares its table.

        Raises LakehouseError if MINUTEMARK_LAKEHOUSE is not a URL.
        """
        if not url.startswith(location()) or not (match := _PATH.fullmatch(url.removeprefix(location()))):
            return None
        try:
            hour = datetime.strptime(match["hour"], _HOUR)
        except ValueError:  # such as 2026-02-30T10
            return None
        for pipeline in all_pipelines().values():
            if pipeline.lakehouse and pipeline.lakehouse.table == match["table"]:
                return cls(pipeline, hour, int(match["version"]), url)
        return None

    def exists(self) -> bool:
        import fsspec

        file_system, path = fsspec.core.url_to_fs(self.url)
        return file_system.exists(path)
