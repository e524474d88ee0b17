"""The extract for Tableau: written from a real warehouse by the command itself, and read again with Tableau's Hyper API."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from include import pipelines
from include.bi import tableau_extract
from include.warehouse import bi_views
from include.warehouse.session import warehouse
from local import bootstrap, connections, tableau, waiting
from local.layout import ROOT, TABLEAU
from tests.warehouse.lab import Lab, contribution, minute
from tests.warehouse.shop import Shop, operation

DAY = timedelta(days=1)
VIEWS = bi_views.views_of_all(pipelines.all_pipelines().values())
READ = """
import json, sys
from tableauhyperapi import Connection, HyperProcess, Telemetry
tables = {}
with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as hyper:
    with Connection(hyper.endpoint, sys.argv[1]) as connection:
        for schema in connection.catalog.get_schema_names():
            for table in connection.catalog.get_table_names(schema):
                columns = connection.catalog.get_table_definition(table).columns
                name = f"{schema.name.unescaped}.{table.name.unescaped}"
                tables[name] = {
                    "columns": [[column.name.unescaped, str(column.type), column.nullability.name] for column in columns],
                    "rows": [[str(value) for value in row] for row in connection.execute_list_query(f"SELECT * FROM {table}")],
                }
print(json.dumps(tables))
"""


def extract(
    *arguments: str, environ: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess:
    """`make tableau` without make."""
    env = environ or tableau.extract_environment(os.environ)
    return subprocess.run(tableau.command([*arguments]), env=env, cwd=cwd, capture_output=True, text=True)


def read(file: Path) -> dict[str, dict]:
    """Columns and rows of each table of an extract."""
    python = TABLEAU / "venv" / "bin" / "python"
    done = subprocess.run([python, "-c", READ, file], cwd=file.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def hyper_api() -> None:
    if not bootstrap.Stamp(TABLEAU / ".made-of", tableau.LOCK, str(bootstrap.find_python())).fits():
        pytest.skip(f"{TABLEAU} does not match {tableau.LOCK.name}: `make tableau` installs it.")


@pytest.fixture(scope="module")
def facts(hyper_api: None, warehouse_schema: None) -> None:
    """Two days of both pipelines, with a large sum and a title that is not ASCII."""
    with warehouse() as conn:
        lab, shop = Lab(conn), Shop(conn)
        lab.query("INSERT INTO recruitment.job (id, title, status, company_id) VALUES (7, 'Bäcker 面包师', 'open', 3)")
        conn.commit()
        large = Decimal("123456789012345.123456")
        days = [contribution(dates=minute(0).date() + number * DAY, bid_sum=large, bid_count=1) for number in range(2)]
        lab.publish({minute(0): days})
        sold = [operation("purchase", event_time=minute(0) + number * DAY) for number in range(2)]
        shop.publish({minute(0): [*sold, operation("view")]}, run_id="shop")


@pytest.mark.optional_install
@pytest.mark.both_servers
def test_an_extract_has_the_views_as_they_are_described(facts, tmp_path: Path) -> None:
    file = tmp_path / "all.hyper"
    done = extract(f"--file={file}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ecommerce.bi_sales: 2 rows" in done.stdout and [*tmp_path.iterdir()] == [file]
    result = read(file)
    types = {
        "DATETIME": "TIMESTAMP",
        "DATETIME(6)": "TIMESTAMP",
        "BIGINT": "BIG_INT",
        "DECIMAL(30, 6)": "NUMERIC(30, 6)",
    }
    types |= {"DECIMAL(24, 2)": "NUMERIC(24, 2)", "VARCHAR(500)": "TEXT", "VARCHAR(64)": "TEXT", "VARCHAR(40)": "TEXT"}
    assert {name: table["columns"] for name, table in result.items()} == {
        view.name: [[column.name, types[column.type], "NOT_NULLABLE"] for column in view.columns] for view in VIEWS
    }


@pytest.mark.optional_install
@pytest.mark.both_servers
def test_an_extract_has_the_rows_of_the_warehouse(facts, tmp_path: Path) -> None:
    file = tmp_path / "all.hyper"
    assert extract(f"--file={file}").returncode == 0
    result = read(file)
    with warehouse("warehouse_bi") as conn:
        cursor = conn.cursor()
        for view in VIEWS:
            cursor.execute(f"SELECT * FROM {view.name}")
            assert sorted(result[view.name]["rows"]) == sorted(
                [str(value) for value in row] for row in cursor.fetchall()
            )
    [title] = {row[3] for row in result["recruitment.bi_events"]["rows"]}
    assert title == "Bäcker 面包师"


@pytest.mark.optional_install
def test_an_extract_can_be_limited_to_a_range_and_to_chosen_views(facts, tmp_path: Path) -> None:
    file = tmp_path / "day.hyper"
    day = minute(0).date()
    done = extract(
        f"--file={file}", "--views=ecommerce.bi_visits, recruitment.bi_events", f"--from={day}", f"--to={day + DAY}"
    )
    assert done.returncode == 0, done.stderr
    result = read(file)
    hours = {name: [row[0] for row in table["rows"]] for name, table in result.items()}
    ten = str(datetime(day.year, day.month, day.day, 10))
    assert hours == {"ecommerce.bi_visits": [ten], "recruitment.bi_events": [ten]}


@pytest.mark.optional_install
def test_a_failed_extract_keeps_the_former_file_and_says_why(facts, tmp_path: Path) -> None:
    file = tmp_path / "former.hyper"
    file.write_text("former")
    variable = connections.variable("warehouse_bi")
    known = json.loads(os.environ[variable])
    environ = tableau.extract_environment({**os.environ, variable: json.dumps({**known, "password": "wrong"})})
    done = extract(f"--file={file}", environ=environ)
    assert done.returncode == 2 and "refused the login" in done.stderr and "wrong" not in done.stderr
    assert file.read_text() == "former" and [*tmp_path.iterdir()] == [file]


@pytest.mark.optional_install
@pytest.mark.both_servers
def test_all_views_show_the_same_moment(facts, tmp_path: Path) -> None:
    """An hour that is published while the extract reads its first view is in none of the views."""
    file, hour = tmp_path / "all.hyper", "2026-03-05 07:00:00"
    waiting_sessions = "SELECT id FROM information_schema.processlist WHERE state LIKE 'Waiting for table%'"

    def require_waiting_session() -> None:
        with warehouse("warehouse_admin") as conn:
            cursor = conn.cursor()
            cursor.execute(waiting_sessions)
            if not cursor.fetchall():
                raise LookupError("no session waits")

    with warehouse("warehouse_admin") as other:
        cursor = other.cursor()
        cursor.execute("LOCK TABLES ecommerce.visits_hourly WRITE, ecommerce.sales_hourly WRITE")
        arguments = [f"--file={file}", "--views=ecommerce.bi_visits,ecommerce.bi_sales"]
        writing = psutil.Popen(tableau.command(arguments), env=tableau.extract_environment(os.environ))
        alive = lambda: writing.poll() is None  # noqa: E731
        waiting.until(require_waiting_session, what="the extract", seconds=60, errors=(LookupError,), alive=alive)
        cursor.execute(f"INSERT INTO ecommerce.visits_hourly (hour, visits, cart_additions) VALUES ('{hour}', 1, 0)")
        cursor.execute(
            "INSERT INTO ecommerce.sales_hourly (hour, department, product, brand, views, carts, removals, purchases, revenue) "
            f"VALUES ('{hour}', 'toys', 'ball', 'acme', 1, 0, 0, 0, 0)"
        )
        other.commit()
        cursor.execute("UNLOCK TABLES")
    assert writing.wait(60) == 0
    before = read(file).values()
    assert len(before) == 2 and all(view["rows"] and hour not in [row[0] for row in view["rows"]] for view in before)
    assert extract(*arguments).returncode == 0
    assert all(hour in [row[0] for row in view["rows"]] for view in read(file).values())


@contextlib.contextmanager
def waiting_extract(file: Path) -> Iterator[tuple[psutil.Popen, list[str]]]:
    """An extract that has created its unfinished file, and waits for a table; with its arguments."""
    arguments = [f"--file={file}", "--views=ecommerce.bi_visits"]
    unfinished = file.with_name(f".{file.name}.unfinished")
    with warehouse("warehouse_admin") as other:
        other.cursor().execute("LOCK TABLES ecommerce.visits_hourly WRITE")
        writing = psutil.Popen(tableau.command(arguments), env=tableau.extract_environment(os.environ))
        waiting.until(
            unfinished.stat,
            what=str(unfinished),
            seconds=60,
            errors=(FileNotFoundError,),
            alive=lambda: writing.poll() is None,
        )
        yield writing, arguments


@pytest.mark.optional_install
def test_a_second_extract_with_the_same_name_is_refused_and_does_not_disturb_the_first(facts, tmp_path: Path) -> None:
    file = tmp_path / "day.hyper"
    with waiting_extract(file) as (writing, arguments):
        done = extract(*arguments)
        assert done.returncode == 2 and "If another extract is writing this file, wait" in done.stderr
    assert writing.wait(60) == 0
    assert read(file)["ecommerce.bi_visits"]["rows"] and [*tmp_path.iterdir()] == [file]


@pytest.mark.optional_install
def test_a_killed_extract_keeps_the_former_file_and_leaves_no_process(facts, tmp_path: Path) -> None:
    file, unfinished = tmp_path / "former.hyper", tmp_path / ".former.hyper.unfinished"
    file.write_text("former")
    with waiting_extract(file) as (writing, arguments):
        processes = [writing, *writing.children(recursive=True)]
        assert len(processes) > 1
        writing.kill()
        _, alive = psutil.wait_procs(processes, timeout=60)
        assert not alive
    assert file.read_text() == "former"
    assert extract(*arguments).returncode == 0
    assert read(file)["ecommerce.bi_visits"]["rows"] and not unfinished.exists()


@pytest.mark.optional_install
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--file=x.csv"], "name a file that ends in .hyper, in an existing folder"),
        (["--file=none/x.hyper"], "name a file that ends in .hyper, in an existing folder"),
        (["--file=x.hyper"], "warehouse_bi .* cannot be reached: .*127.0.0.1:1"),
        (
            ["--file=x.hyper", "--views=etl.board_now"],
            "unknown etl.board_now. Choose from the views for BI tools: ecommerce.bi_sales, ",
        ),
        (["--file=/proc/x.hyper"], "/proc/x.hyper cannot be written: .* could not be created.* name another folder"),
        (["--file=x.hyper", "--from=yesterday"], "`from` is 'yesterday', which is not a date and time"),
    ],
)
def test_options_that_cannot_work_and_an_unreachable_warehouse_are_refused(
    hyper_api, tmp_path: Path, arguments: list[str], message: str
) -> None:
    environ = tableau.extract_environment({connections.variable("warehouse_bi"): '{"host": "127.0.0.1", "port": 1}'})
    done = extract(*arguments, environ=environ, cwd=tmp_path)
    assert done.returncode == 2 and re.search(message, done.stderr)
    assert not [*tmp_path.iterdir()]


@pytest.mark.optional_install
def test_an_extract_without_its_connection_says_how_to_define_the_connection(hyper_api, tmp_path: Path) -> None:
    environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    done = extract("--file=x.hyper", environ=environ, cwd=tmp_path)
    assert done.returncode == 2 and "Connection 'warehouse_bi' is not defined. Define it in Airflow" in done.stderr
    assert "AIRFLOW_CONN_WAREHOUSE_BI" in done.stderr


def test_rows_stay_on_the_server_until_they_are_fetched(warehouse_schema: None) -> None:
    """Even if the driver is mysqlclient, as in Airflow's own environment."""
    [view] = tableau_extract.chosen_views("ecommerce.bi_visits")
    with warehouse() as conn:
        Shop(conn).publish({minute(2): [operation()]}, run_id="one more")
    with warehouse("warehouse_bi") as conn:
        cursor = tableau_extract._streaming_cursor(conn)
        cursor.execute("SELECT 1 UNION ALL SELECT 2")
        assert cursor.rowcount == -1  # not known yet
        assert len(cursor.fetchall()) == 2
        [rows] = tableau_extract._row_batches(conn, view, None, None)
        assert len(rows) >= 1 and len(rows[0]) == len(view.columns)


def test_an_extract_without_the_hyper_api_says_how_to_install_the_api(capfd, tmp_path: Path) -> None:
    assert "tableauhyperapi" not in sys.modules
    assert tableau_extract.main([f"--file={tmp_path / 'x.hyper'}"]) == 2
    assert "Hyper API is not installed here" in (text := capfd.readouterr().err) and "Run `make tableau`" in text


def test_the_command_sees_one_account_and_shows_no_secret() -> None:
    passwords = connections.new_passwords()
    known = {**connections.lake(passwords, 9042), **connections.warehouse(passwords, 3306)}
    environ = tableau.extract_environment(
        known, {**known, "PYTHONPATH": "/x", "HOME": "/h", "MINUTEMARK_PASSWORDS": "{}"}
    )
    shown = [name for name, password in passwords.items() if password in "\n".join(environ.values())]
    assert shown == ["warehouse_bi"] and environ["HOME"] == "/h"
    line = " ".join(tableau.command(["--file=x.hyper"]))
    assert not [password for password in passwords.values() if password in line]
