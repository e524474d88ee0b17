"""Removes old runs and task logs of the local Airflow once a day, as a program of the supervisor.

A task could not do this: Airflow gives tasks no access to its database.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.layout import AIRFLOW_HOME, DATA, VENV

RETENTION = timedelta(days=7)
INTERVAL = timedelta(days=1)
_PAUSE_SECONDS = 600
# Tables that grow with runs; `airflow db clean` adds those that depend on them, such as task instances and XComs. Not `dag`
# and `dag_version`: if a file is missing for a week, its DAG must come back as it was, paused or not.
TABLES = ("dag_run", "task_instance", "task_reschedule", "trigger", "callback", "job", "log", "import_error")

_CLEANED = DATA / "postgres" / "cleaned"  # beside the database that it describes


def clean_command(now: datetime) -> list[str]:
    """`airflow db clean` of rows older than RETENTION; of each DAG, it keeps the newest run that is not manual."""
    return [
        *("nice", "-n", "10", str(VENV / "bin" / "airflow"), "db", "clean", "--yes"),
        # Without this option, every clean-up would leave archive tables of the rows that it removed.
        "--skip-archive",
        *("--clean-before-timestamp", (now - RETENTION).isoformat(timespec="seconds")),
        *("--tables", ",".join(TABLES)),
        *("--batch-size", "10000"),
        "--error-on-cleanup-failure",
    ]


def remove_old_logs(folder: Path, now: datetime) -> int:
    """Remove log files older than RETENTION, and empty folders unchanged for as long; returns the number of files."""
    oldest = (now - RETENTION).timestamp()
    removed = 0
    for path in sorted(folder.rglob("*"), reverse=True):  # the contents of a folder before the folder
        with contextlib.suppress(OSError):  # being written to, or removed since
            if path.is_symlink():
                continue
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()
                removed += 1
            elif path.is_dir() and path.stat().st_mtime < oldest:
                path.rmdir()  # refused while anything is in it
    return removed


def is_due(mark: Path, now: datetime) -> bool:
    """Whether the last clean-up was at least a day ago. The first one is due a day after the first call."""
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return mark.stat().st_mtime < (now - INTERVAL).timestamp()


def main() -> None:
    while True:
        now = datetime.now(UTC)
        if is_due(_CLEANED, now):
            if subprocess.run(clean_command(now)).returncode == 0:
                _CLEANED.touch()
            print(f"Removed {remove_old_logs(AIRFLOW_HOME / 'logs', now)} log files older than {RETENTION.days} days.")
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
