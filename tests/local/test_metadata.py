"""Airflow's old runs and logs: what the clean-up removes, and when."""

import os
from datetime import UTC, datetime, timedelta

from local import metadata
from tests import airflow_home  # noqa: F401  before any import of Airflow

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def write(path, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a line")
    for aged_path in (path, *list(path.parents)[:2]):
        os.utime(aged_path, ((NOW - age).timestamp(),) * 2)
    return path


def test_old_logs_are_removed_and_recent_logs_are_kept(tmp_path):
    logs = tmp_path / "logs"
    old = write(logs / "dag" / "old" / "attempt=1.log", timedelta(days=8))
    young = write(logs / "other" / "young" / "attempt=1.log", timedelta(days=6))
    assert metadata.remove_old_logs(logs, NOW) == 1
    assert not old.exists()
    assert young.exists()
    assert metadata.remove_old_logs(logs, NOW) == 0
    os.utime(old.parent, ((NOW - timedelta(days=8)).timestamp(),) * 2)  # the removal of the file has changed this time
    assert metadata.remove_old_logs(logs, NOW) == 0 and not old.parent.exists()


def test_a_link_is_not_followed(tmp_path):
    kept = write(tmp_path / "elsewhere" / "of" / "file", timedelta(days=30))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "latest").symlink_to(kept.parent)
    assert metadata.remove_old_logs(tmp_path / "logs", NOW) == 0
    assert kept.exists()


def test_a_new_database_is_left_alone_for_a_day_and_then_cleaned_daily(tmp_path):
    mark, now = tmp_path / "postgres" / "cleaned", datetime.now(UTC)
    assert not metadata.is_due(mark, now)
    assert metadata.is_due(mark, now + timedelta(days=1, minutes=1))
    mark.touch()
    assert not metadata.is_due(mark, now + timedelta(hours=23))


def test_airflow_accepts_the_command_that_cleans_its_database():
    from airflow.cli.cli_parser import get_parser
    from airflow.utils.db_cleanup import config_dict

    command = metadata.clean_command(NOW)
    args = get_parser().parse_args(command[command.index("db") :])
    assert args.clean_before_timestamp == NOW - timedelta(days=7)
    assert args.yes and args.skip_archive and args.error_on_cleanup_failure
    assert set(args.tables) <= set(config_dict)
    rule = config_dict["dag_run"]
    assert rule.keep_last and rule.keep_last_group_by == ["dag_id"], (
        "Otherwise minutemark_setup, scheduled @once, would run again."
    )
