"""The generator of shop files: its events are spread as in the public data set, sorted, and the same for the same seed."""

from __future__ import annotations

import csv
import gzip
import io
import re
import signal
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from datetime import date, datetime

import pytest

from bench import shop_file
from bench.shop_file import Request, lines, main
from local.layout import ROOT

ROWS = 60_000
COLUMNS = (
    "event_time", "event_type", "product_id", "category_id", "category_code", "brand", "price", "user_id", "user_session",
)  # fmt: skip


def text_of(request: Request, products: int = 5_000) -> str:
    return shop_file.HEADER + "".join(text for _, text in lines(request, products))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text_of(Request(ROWS, date(2019, 11, 1), days=4)))))


def share(rows: list[dict[str, str]], column: str, value: str) -> float:
    return sum(row[column] == value for row in rows) / len(rows)


def test_columns_and_values_are_those_of_the_data_set(rows):
    assert len(rows) == ROWS and {tuple(row) for row in rows} == {COLUMNS}
    formats = {
        "event_time": r"2019-11-0[1-4] \d\d:\d\d:\d\d UTC",
        "event_type": r"view|cart|purchase",
        "product_id": r"\d{7,8}",
        "category_id": r"20530135\d{11}",
        "category_code": r"|[a-z_]+(\.[a-z_]+)+",
        "brand": r"|[a-z]+",
        "price": r"\d{1,4}\.\d\d",
        "user_id": r"\d{9}",
        "user_session": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}",
    }
    for column, pattern in formats.items():
        odd = {row[column] for row in rows if not re.fullmatch(pattern, row[column])}
        assert not odd, f"{column}: {sorted(odd)[:5]}"
    prices = [float(row["price"]) for row in rows]
    assert min(prices) == 0 and 1_000 < max(prices) <= shop_file.HIGHEST_PRICE


def test_kinds_and_empty_values_have_the_shares_of_the_data_set(rows):
    assert share(rows, "event_type", "view") == pytest.approx(0.941, abs=0.001)
    assert share(rows, "event_type", "cart") == pytest.approx(0.045, abs=0.001)
    assert share(rows, "event_type", "purchase") == pytest.approx(0.014, abs=0.001)
    assert share(rows, "category_code", "") == pytest.approx(0.32, abs=0.03)
    assert share(rows, "brand", "") == pytest.approx(0.14, abs=0.03)


def test_rows_are_sorted_and_follow_the_same_daily_rhythm_on_every_day(rows):
    times = [row["event_time"] for row in rows]
    assert times == sorted(times)
    hours = Counter(time[:13] for time in times)
    for day in ("01", "02", "03", "04"):
        counts = {hour: hours[f"2019-11-{day} {hour:02}"] for hour in range(24)}
        assert max(counts, key=counts.get) in (15, 16, 17)
        assert sorted(sorted(counts, key=counts.get)[:3]) in ([0, 22, 23], [0, 1, 23])
        assert counts[16] > 5 * counts[23]


def test_a_few_products_get_many_rows_and_the_tail_is_long(rows):
    counts = [times for _, times in Counter(row["product_id"] for row in rows).most_common()]
    assert len(counts) > 3_500  # this test has 5,000 products
    assert sum(counts[:50]) > 0.35 * ROWS  # the top 1 % of the products
    assert counts[0] < 0.1 * ROWS


def test_events_come_in_sessions_of_one_user_and_nothing_is_bought_that_was_not_in_the_cart(rows):
    sessions = defaultdict(list)
    for row in rows:
        sessions[row["user_session"]].append(row)
    assert 4 < ROWS / len(sessions) < 6
    assert all(len({row["user_id"] for row in session}) == 1 for session in sessions.values())
    assert len({row["user_id"] for row in rows}) < len(sessions)  # some users return
    lengths = [_minutes(session) for session in sessions.values()]
    assert sum(length < 60 for length in lengths) > 0.95 * len(lengths)
    kinds_before: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        kinds = kinds_before[row["user_session"], row["product_id"]]
        if row["event_type"] == "purchase":
            assert "cart" in kinds
        kinds.add(row["event_type"])


def _minutes(session: list[dict[str, str]]) -> float:
    first, last = (datetime.fromisoformat(session[place]["event_time"].removesuffix(" UTC")) for place in (0, -1))
    return (last - first).total_seconds() / 60


def test_the_same_seed_gives_the_same_file_and_another_seed_another_file():
    small = Request(3_000, days=2)
    assert text_of(small, 500) == text_of(small, 500)
    assert text_of(small, 500) != text_of(Request(3_000, days=2, seed=2), 500)


@pytest.mark.parametrize("count", [1, 7, 100])
def test_few_rows_are_spread_over_all_days(count):
    result = text_of(Request(count, date(2020, 2, 28), days=3), 50).splitlines()
    assert len(result) == count + 1
    days = {line[:10] for line in result[1:]}
    assert days <= {"2020-02-28", "2020-02-29", "2020-03-01"} and len(days) == min(count, 3)


def test_the_file_is_compressed_as_its_name_says(tmp_path, capsys):
    readers = {
        "shop.csv": lambda path: path.read_bytes(),
        "shop.csv.gz": lambda path: gzip.decompress(path.read_bytes()),
        "shop.csv.zip": lambda path: zipfile.ZipFile(path).read("shop.csv"),
    }
    contents = set()
    for name, read in readers.items():
        path = tmp_path / name
        assert main([f"--file={path}", "--rows=2000", "--days=1", "--seed=7"], products=500) == 0
        contents.add(read(path))
    assert contents == {text_of(Request(2_000, days=1, seed=7), 500).encode()}
    assert "rows: 2,000, days: 1, first day: 2019-11-01" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(readers)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file=x.csv", "--rows=many"], "ROWS=many is not a whole number of at least 1"),
        (["--file=x.csv", "--rows=0"], "ROWS=0 is not a whole number of at least 1"),
        (["--file=x.csv", "--rows=1", "--start=soon"], "START=soon is not a date"),
        (["--file=", "--rows=1"], "FILE is not set. Name a new file"),
        (["--file=nowhere/x.csv", "--rows=1"], "nowhere/x.csv: No such file or directory"),
    ],
)
def test_invalid_options_are_refused_with_a_hint(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_an_existing_file_is_never_overwritten(tmp_path, capsys):
    path = tmp_path / "2019-Nov.csv"
    path.write_text("mine")
    assert main([f"--file={path}", "--rows=10"]) == 1
    assert path.read_text() == "mine" and "already exists" in capsys.readouterr().err


def test_an_interrupted_file_is_not_left_behind(tmp_path):
    # A suite in the background ignores Ctrl-C, and so would its children.
    program = (
        "import signal, sys; from bench.shop_file import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, f"--file={tmp_path / 'x.csv.gz'}", "--rows=50000000"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not any(file.stat().st_size for file in tmp_path.iterdir()):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert list(tmp_path.iterdir()) == []
