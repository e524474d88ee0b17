"""The notebook and Zeppelin's note, executed on real stores: their figures match those calculated by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta

import nbformat
import pytest
from nbclient import NotebookClient

from local import notebook
from local.layout import ROOT
from tests.notebooks import history
from tests.reference.rows import click, page_view

NOTEBOOK = ROOT / "notebooks" / "recruitment_by_hour.ipynb"
[NOTE] = (ROOT / "docker" / "zeppelin" / "notes").rglob("*.zpln")
NOON = datetime(2026, 3, 1, 12, 0, 5)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
CHOSEN_RANGE = 'FIRST, LAST = "2026-03-01T12:00", "2026-03-01T13:00"'

MERGED = [
    click(NOON, 1, bid="1.5"),
    click(NOON, 2, bid="2.25", job_id="8"),
    click(NOON, 3, bid=None),  # clicks without a bid cost nothing
    page_view(NOON, 4),
    click(NOON, 5, custom_track="alive"),  # ignored
    click(NOON, 6, bid="-1"),  # rejected
    click(NOON + 59 * MINUTE, 7, bid="4", ts="2026-03-01 13:00:01.000"),  # its visitor's clock is in the next hour
    click(NOON + 59 * MINUTE, 8, custom_track="qualified", bid=None, ts="2026-02-19 23:59:59.999"),
    click(NOON + 59 * MINUTE, 9, bid="2", ts="2099-12-31 23:30:00.000"),
    click(NOON + HOUR, 10, bid="0.5"),  # the next hour, in no chosen minute
]
UNMERGED = [click(NOON + 30 * MINUTE, 11, bid="100")]

COLUMNS = [
    "hour_utc",
    "clicks_lake",
    "clicks_warehouse",
    "clicks_board",
    "spend_lake",
    "spend_warehouse",
    "spend_board",
]
FIGURES = [
    ["2026-02-19 23:00", "0", "0", "0", "0.000000", "0.000000", "0.000000", "true", "true"],
    ["2026-03-01 12:00", "3", "3", "3", "3.750000", "3.750000", "3.750000", "true", "true"],
    ["2026-03-01 13:00", "1", "1", "2", "4.000000", "4.000000", "4.500000", "true", "false"],
    ["2099-12-31 23:00", "1", "1", "1", "2.000000", "2.000000", "2.000000", "true", "true"],
]
FATES = [["counted", "7", "7"], ["ignored", "1", "1"], ["rejected", "1", "1"]]

# What the tests check in addition to the notebook: how the stores are read, and what `ps` shows of its processes.
PROBE = """
import contextlib, psutil
spark.conf.set("spark.sql.maxPlanStringLength", "100000")
print(raw._jdf.queryExecution().executedPlan().toString())
for frame in (contributed, shown):
    print(frame._jdf.queryExecution().executedPlan().toString())
for process in psutil.Process().children(recursive=True):
    with contextlib.suppress(psutil.Error):  # one that has just ended
        print(process.cmdline())
"""


@pytest.fixture(scope="module")
def stores(schemas, cassandra_node, warehouse_server, tmp_path_factory) -> dict[str, str]:
    """Both stores with MERGED in the facts and UNMERGED in the lake alone; the variables of all their connections."""
    history.publish(MERGED, tmp_path_factory.mktemp("merged"))
    history.write(UNMERGED, tmp_path_factory.mktemp("unmerged"))
    return {**cassandra_node, **warehouse_server}


@pytest.fixture(scope="module")
def execute(stores, tmp_path_factory) -> Callable[[list], nbformat.NotebookNode]:
    """Runs cells in a kernel with the environment of `make notebook`, on a machine whose time zone is not UTC."""
    environ = notebook.jupyter_environment({**os.environ, **stores}) | {
        "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        "TZ": "America/St_Johns",
    }

    def run(cells: list) -> nbformat.NotebookNode:
        book = nbformat.v4.new_notebook(cells=cells)
        resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
        NotebookClient(book, timeout=240, kernel_name="python3", resources=resources).execute(env=environ)
        return book

    return run


@pytest.fixture(scope="module")
def cell_texts(execute) -> dict[str, str]:
    """The text output of each cell of the notebook by the cell's id, and the executed notebook under `notebook`."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    [position] = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", ())]
    assert cells[-1].source.startswith("spark.stop()")
    probe = nbformat.v4.new_code_cell(PROBE, id="probe")
    chosen = nbformat.v4.new_code_cell(CHOSEN_RANGE, id="chosen")
    book = execute([*cells[: position + 1], chosen, *cells[position + 1 : -1], probe, cells[-1]])
    return {cell.id: text_of(cell) for cell in book.cells} | {"notebook": nbformat.writes(book)}


def text_of(cell) -> str:
    """What a cell has printed or shown, as text."""
    outputs = cell.get("outputs", ())
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def table(text: str) -> list[list[str]]:
    """The rows of what show() prints, the header first."""
    return [[value.strip() for value in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_the_figures_match_those_calculated_by_hand(cell_texts):
    header, *rows = table(cell_texts["compare"])
    assert header == [*COLUMNS, "equal", "whole"]
    assert rows == FIGURES


def test_the_notebook_counts_equal_hours_and_those_whose_figures_are_also_on_the_board(cell_texts):
    assert cell_texts["verdict"].strip() == "All 4 hours are equal. For 3 of them, the board shows the same figures."


def test_a_minute_that_is_not_merged_yet_is_left_out(cell_texts):
    assert cell_texts["ledger"].startswith(
        "2 of 60 minutes are finished, from 2026-03-01 12:00:00 to 2026-03-01 12:59:00"
    )


def test_row_fates_match_the_ledger(cell_texts):
    assert sorted(table(cell_texts["fates"])[1:]) == FATES


def test_there_is_a_chart(cell_texts):
    plots = [cell for cell in json.loads(cell_texts["notebook"])["cells"] if cell["id"] == "plot"]
    assert [output["data"]["image/png"][:4] for output in plots[0]["outputs"] if "data" in output] == ["iVBO"]


def test_the_lake_is_read_by_partition_key_and_the_warehouse_answers_the_queries(cell_texts):
    plans = cell_texts["probe"]
    assert "CassandraInJoin" in plans and "CassandraScan" not in plans, plans
    assert all(f"PushedFilters: [*In({column}, [" in plans for column in ("minute_utc", "hour_utc")), plans


def test_no_password_is_in_the_executed_notebook_or_on_a_command_line(cell_texts, stores):
    assert "java" in cell_texts["probe"]
    passwords = [json.loads(text)["password"] for text in stores.values()]
    assert len(passwords) == 6 and not [password for password in passwords if password in cell_texts["notebook"]]


def test_zeppelins_note_shows_the_same_figures(execute):
    """Its paragraphs run in a kernel, with only the settings of docker/zeppelin/spark-defaults.conf."""
    cells = [nbformat.v4.new_code_cell(ZEPPELIN, id="zeppelin")]
    for paragraph in json.loads(NOTE.read_text())["paragraphs"]:
        interpreter, _, text = paragraph["text"].partition("\n")
        if text.startswith("FIRST, LAST"):
            text = CHOSEN_RANGE
        if interpreter == "%spark.sql":
            text = f"spark.sql({text!r}).show(truncate=False)"
        if interpreter != "%md":
            cells.append(nbformat.v4.new_code_cell(text, id=paragraph["id"]))
    book = execute(cells)
    shown = [table(text_of(cell)) for cell in book.cells]
    assert sorted(shown[3][1:]) == FATES
    assert shown[4] == [["hours", "different", "as_on_the_board"], ["4", "0", "3"]]
    assert shown[5] == [COLUMNS[:4], *(row[:4] for row in FIGURES)]
    assert shown[6] == [[COLUMNS[0], *COLUMNS[4:]], *([row[0], *row[4:7]] for row in FIGURES)]


ZEPPELIN = f"""
import os
from include.spark import installation, jvm
from pyspark.sql import SparkSession

os.environ.update(jvm.environment("local[2]"))
lines = open({str(ROOT / "docker" / "zeppelin" / "spark-defaults.conf")!r}).read().splitlines()
defaults = dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))
defaults["spark.jars"] = ",".join(installation.spark_jars())
# The container's own zone is UTC; compiling with C2 does not pay off in a test.
defaults["spark.driver.extraJavaOptions"] = "-Duser.timezone=UTC -XX:TieredStopAtLevel=1"
spark = SparkSession.builder.master("local[2]").config(map=defaults).getOrCreate()
"""


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").rglob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_committed_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, f"clear the outputs of {path}"
