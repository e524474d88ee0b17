"""Rejected events by reason: who sees what, and which reasons count as one."""

from __future__ import annotations

import json
import os

import pytest

from include.lake.admission import Refused
from include.warehouse import rejected
from include.warehouse.errors import WarehouseError
from include.warehouse.rejected import Selection
from include.warehouse.session import warehouse
from tests.warehouse.lab import RECRUITMENT, Lab, minute

AT = minute(0)


def reject(lab: Lab, reason: str, key: str, at=AT, origin: str = "lake", payload: str = '{"bid": "-3"}') -> None:
    lab.query(
        "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
        "VALUES ('recruitment', %s, %s, %s, %s, %s)",
        origin,
        key,
        at,
        reason,
        payload,
    )


def groups(conn, selection: Selection) -> dict[tuple[str, str], int]:
    result = rejected.by_reason(conn, [RECRUITMENT], selection, payloads=True)
    return {(group["origin"], group["reason"]): group["rows"] for group in result}


def test_reasons_that_differ_only_in_the_value_count_as_one(lab: Lab) -> None:
    reject(lab, "bid is negative: -3", "a")
    reject(lab, "bid is negative: -4: really", "b", minute(5))
    reject(lab, "bid is not a number: 'x", "c")
    no_uuid = "create_time {} is not a time-UUID (version 1, 36 characters)"
    reject(lab, no_uuid.format("'a: b'"), "sha:2", None, "import")
    reject(lab, no_uuid.format('"it\'s"'), "sha:3", None, "import")
    reject(lab, "line 4 is not a record: it has 2 fields", "sha:4", None, "import")
    reject(lab, "line 17 is not a record: it has 9 fields", "sha:17", None, "import")
    result = rejected.by_reason(lab.conn, [RECRUITMENT], Selection(), payloads=True)
    assert {(group["origin"], group["reason"]): group["rows"] for group in result} == {
        ("lake", "bid is negative"): 2,
        ("lake", "bid is not a number"): 1,
        ("import", "create_time … is not a time-UUID (version 1, 36 characters)"): 2,
        ("import", "line … is not a record"): 2,
    }
    negative = next(group for group in result if group["reason"] == "bid is negative")
    assert (negative["minutes"], negative["first_minute"], negative["last_minute"]) == (2, minute(0), minute(5))
    assert [sample["origin_key"] for sample in negative["samples"]] == ["a", "b"]


def test_a_range_of_minutes_selects_only_rows_whose_minute_is_known(lab: Lab) -> None:
    reject(lab, "bid is negative: -3", "a", minute(0))
    reject(lab, "bid is negative: -3", "b", minute(5))
    reject(lab, "id is absent", "sha:1", None, "import")
    assert groups(lab.conn, Selection(None, minute(0), minute(5))) == {("lake", "bid is negative"): 1}
    assert groups(lab.conn, Selection(None, minute(1))) == {("lake", "bid is negative"): 1}
    assert groups(lab.conn, Selection(None, None, minute(9))) == {("lake", "bid is negative"): 2}


@pytest.mark.parametrize("reason", ["bid is negative", "bid is neg", "bid is negative: -3"])
def test_a_reason_is_chosen_by_its_name_or_its_beginning(lab: Lab, reason: str) -> None:
    reject(lab, "bid is negative: -3", "a")
    reject(lab, "bid is not a number: x", "b")
    assert rejected.lake_keys(lab.conn, RECRUITMENT, Selection(reason)) == {minute(0): {"a"}}


def test_the_name_of_a_reason_with_a_value_in_it_chooses_its_rows(lab: Lab) -> None:
    reject(lab, "create_time 'x' is not a time-UUID", "sha:1", None, "import")
    rows, others = rejected.rows_to_reprocess(lab.conn, RECRUITMENT, Selection("create_time … is not a time-UUID"))
    assert (len(rows), others) == (1, 0)
    assert rejected.rows_to_reprocess(lab.conn, RECRUITMENT, Selection("create_time _ is no%"))[0] == []


def test_the_read_only_account_sees_reasons_but_no_payload(lab: Lab) -> None:
    reject(lab, "bid is negative: -3", "a", payload='{"email": "secret"}')
    with warehouse("warehouse_bi") as conn:
        [group] = rejected.by_reason(conn, [RECRUITMENT], Selection(), payloads=False)
        assert group["samples"] == [{"origin_key": "a", "minute": minute(0), "reason": "bid is negative: -3"}]
        with pytest.raises(WarehouseError, match="denied permission"), warehouse("warehouse_bi") as other:
            rejected.by_reason(other, [RECRUITMENT], Selection(), payloads=True)


def test_the_other_client_library_finds_the_same_rows(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mysql.connector")
    reject(lab, "bid is negative: -3", "a")
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection | {"extra": {"client": "mysql-connector-python"}})
    )
    with warehouse() as conn:
        assert "mysql.connector" in type(conn).__module__
        [group] = rejected.by_reason(conn, [RECRUITMENT], Selection("bid is negative"), payloads=True)
        assert (group["reason"], group["samples"][0]["payload"]) == ("bid is negative", '{"bid": "-3"}')
        assert rejected.lake_keys(conn, RECRUITMENT, Selection(None, minute(0))) == {minute(0): {"a"}}
        [(rejected_id,)] = lab.query("SELECT rejected_id FROM etl.rejected_events")
        assert rejected.read_rows(conn, [rejected_id])[0]["reason"] == "bid is negative: -3"
        rejected.record_outcomes(conn, [], [(rejected_id, "größer", None)])
        assert rejected.read_rows(conn, [rejected_id])[0]["reason"] == "größer"


def test_the_list_cuts_payloads_to_a_readable_length(lab: Lab, minutemark, capsys) -> None:
    assert minutemark("rejected") == 0
    assert capsys.readouterr().out == "There are no rejected events in ecommerce, recruitment.\n"
    reject(lab, "bid is negative: -3", "2026-03-01T10:00Z/0/a", payload=json.dumps({"ed": "x" * 10_000}))
    assert minutemark("rejected", "recruitment") == 0
    shown = capsys.readouterr().out
    assert "bid is negative" in shown and '{"ed": "xxx' in shown
    assert max(map(len, shown.splitlines())) < 400
    assert minutemark("rejected", "--reason", "no job") == 0
    assert capsys.readouterr().out == "There are no matching rejected events in ecommerce, recruitment.\n"
    assert minutemark("rejected", "--json", "--from", "2026-03-01T10:00", "--reason", "bid is neg") == 0
    [group] = json.loads(capsys.readouterr().out)
    assert (group["rows"], group["reason"], group["first_minute"]) == (1, "bid is negative", "2026-03-01 10:00:00")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "`pipeline` is 'nothing'. Choose one of ecommerce, recruitment."),
        (["--format", "xml"], "'xml' is not one of 'table', 'tsv', 'json'"),
        (["--from", "2026-03-02", "--to", "2026-03-01"], "must be before `to`"),
        (["--from", "noon"], "is not a date and time"),
    ],
)
def test_the_list_says_what_is_wrong_in_one_line(
    lab: Lab, minutemark, capsys, arguments: list[str], message: str
) -> None:
    assert minutemark("rejected", *arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert message in line and line.startswith(("Listing failed. ", "Error: "))


def test_a_payload_that_the_column_cannot_hold_is_cut(lab: Lab) -> None:
    """MEDIUMTEXT holds 16,777,215 bytes, so fewer characters if they need several bytes."""
    rejected.keep(lab.conn, RECRUITMENT, rejected.KAFKA, [Refused("t@id/0/7", "no JSON", "面" * 6_000_000)])
    assert lab.one("SELECT CHAR_LENGTH(payload) FROM etl.rejected_events") == 1_000_000
