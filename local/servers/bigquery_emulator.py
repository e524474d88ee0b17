"""A BigQuery emulator, in its own Python environment: for tests, and for a lakehouse with MINUTEMARK_BIGQUERY=local.

It listens on loopback only, and requires a token, which is in `.local/env` and in Airflow's environment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from include.bigquery import settings
from local import bootstrap, waiting
from local.layout import BIGQUERY, ROOT
from local.loopback import answer, json_request
from local.problems import Problem

NAME = "bigquery"
TOKEN = "BIGQUERY_EMULATOR_TOKEN"
LOCAL = "local"  # the value of MINUTEMARK_BIGQUERY that starts it
DATASET = "minutemark-local.lakehouse"  # the value that tasks then see
_FOLDER = ROOT / "local" / "bigquery"


@dataclass(frozen=True)
class Emulator:
    """One emulator: where its data is, the loopback port it listens on, and the token of its clients."""

    home: Path
    port: int
    token: str = field(repr=False)

    name = "the BigQuery emulator"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def buckets(self) -> Path:
        """The folder in which `gs://bucket/name` is the file bucket/name."""
        return self.home / "buckets"

    def command(self) -> list[str]:
        """The command that runs the emulator in the foreground; the emulator reads the token from its environment."""
        return [str(BIGQUERY / "venv" / "bin" / "python"), str(_FOLDER / "serve.py"), str(self.port), str(self.home)]

    def variables(self, dataset: str = DATASET) -> dict[str, str]:
        """What a client needs to use it."""
        return {settings.SETTING: dataset, "BIGQUERY_EMULATOR_HOST": self.url, TOKEN: self.token}

    def wait_until_ready(self, *, seconds: float = 120, alive: Callable[[], bool], log: str) -> None:
        waiting.until(
            lambda: answer(json_request("GET", f"{self.url}/readyz", token=self.token), 5),
            what=f"the BigQuery emulator on {self.url}",
            seconds=seconds,
            errors=(OSError, ValueError),
            alive=alive,
            log=log,
        )


def is_local(environ: Mapping[str, str]) -> bool:
    """Whether the setting selects the emulator: `local`, or the emulator's dataset in a shell that sourced `.local/env`."""
    return environ.get(settings.SETTING) in (LOCAL, DATASET)


def install() -> None:
    """Install the emulator's environment, exactly as its lock says."""
    bootstrap.install_separately(
        BIGQUERY, _FOLDER / "requirements.lock", "BigQuery emulator", "about 75 packages, 500 MB"
    )


def main() -> int:
    """`python -m local.servers.bigquery_emulator` installs it, for tests."""
    try:
        install()
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
