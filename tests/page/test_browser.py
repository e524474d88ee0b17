"""The page in a real browser, within a real Airflow on a real warehouse: what it shows, and what a click does."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import quote

import pytest

from include.listing import as_json
from include.operations.copies import COUNT_LIMIT
from include.page.problems import SEARCHED
from include.verify.report import Finding, Findings, PipelineReport, Report
from local import bootstrap
from local.api_server import ApiServer, site
from tests.page.states import MINUTE, USERS, drift, hold, minutes_ago, publish, see, text
from tests.warehouse.lab import Lab

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: `make test` installs it.")
expect = playwright.expect

EVIL = "<img src=x onerror=\"document.title='owned'\">"
PATIENCE = 20_000  # milliseconds


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """The system's Chromium, installed now if we are root on Debian."""
    if not shutil.which("chromium"):
        if os.getuid() != 0 or not shutil.which("apt-get"):
            pytest.skip("There is no chromium here: install it (Debian: sudo apt-get install chromium).")
        bootstrap.install(["chromium"])
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def airflow(warehouse_server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MINUTEMARK_LAKEHOUSE", "file:///lakehouse")
        environment.setenv("MINUTEMARK_BIGQUERY", "project.lakehouse")
        with site(tmp_path_factory.mktemp("site"), warehouse_server, USERS) as airflow_site:
            yield airflow_site


@pytest.fixture
def visit(chromium, airflow: ApiServer) -> Iterator[Callable]:
    """Opens Airflow as the given user and goes to the page; returns (tab, frame). Any error of the page fails the test."""
    contexts, errors = [], []

    def open_page(user: str, **settings):
        context = chromium.new_context(viewport={"width": 1440, "height": 1000}, **settings)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.add_cookies([{"name": "_token", "value": airflow.token(user), "url": airflow.url}])
        tab = context.new_page()
        tab.on("console", lambda entry: errors.append(entry.text) if _is_ours(entry) else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(airflow.url)
        tab.get_by_role("link", name="Pipelines").click()
        frame = tab.frame_locator("iframe[title=Pipelines]")
        frame.get_by_role("button", name=re.compile("^recruitment")).click()
        return tab, frame

    yield open_page
    for context in contexts:
        context.close()
    assert not errors


def _is_ours(entry) -> bool:
    was_aborted = "net::ERR_FAILED" in entry.text  # by a test
    return entry.type == "error" and "/minutemark/" in entry.location.get("url", "") and not was_aborted


def test_a_held_minute_is_released_from_the_page(visit, lab: Lab) -> None:
    minute = minutes_ago(lab, 5)
    hold(lab, minute)
    _, page = visit("ulf")
    page.get_by_role("button", name=re.compile("^Held")).click()
    article = page.locator(f"article[data-minute='{text(minute)}']")
    expect(article).to_contain_text("staging_events_no_negative found 1 row")
    article.get_by_placeholder("Reason, kept in the record").fill("on purpose")
    article.get_by_role("button", name="Release").click()
    expect(page.get_by_role("status").filter(has_text="Released by ulf")).to_be_visible()
    expect(article).to_contain_text("The next run publishes it")
    assert lab.query("SELECT minute, released_by, reason FROM etl.releases") == [(minute, "ulf", "on purpose")]
    assert lab.pending() == [minute]


def test_a_held_minute_that_was_touched_is_shown_with_what_happens_next_and_can_still_be_released(
    visit, lab: Lab
) -> None:
    minute = minutes_ago(lab, 5)
    hold(lab, minute)
    see(lab, minute)
    _, page = visit("ulf")
    page.get_by_role("button", name=re.compile("^Held")).click()
    article = page.locator(f"article[data-minute='{text(minute)}']")
    expect(article).to_contain_text("It was touched after it was held. The next run reads it again.")
    expect(article.get_by_role("button", name="Release")).to_be_visible()


@pytest.mark.parametrize("fragment", ["%", "no_pipeline/no_view", "recruitment/constructor"])
def test_an_unknown_view_in_the_address_shows_the_minutes(visit, airflow: ApiServer, lab: Lab, fragment: str) -> None:
    publish(lab, minutes_ago(lab, 5), "run")
    tab, _ = visit("vera")
    tab.goto(f"{airflow.url}/minutemark/pipelines#{fragment}")
    expect(tab.get_by_role("button", name="Minutes", exact=True)).to_have_attribute("aria-current", "page")
    expect(tab.locator("main")).to_contain_text("Oldest unmerged live change")


def test_the_figures_of_a_pipeline_refresh_while_its_minutes_are_shown(visit, lab: Lab) -> None:
    _, page = visit("vera")
    pending_and_held = page.locator("dl.figures div", has_text="Minutes pending · held").locator("dd")
    expect(pending_and_held).to_have_text("0 · 0")
    hold(lab, minutes_ago(lab, 5))
    expect(pending_and_held).to_have_text("0 · 1", timeout=PATIENCE)


def test_hours_that_wait_for_lakehouse_and_bigquery_are_shown_for_the_pipeline_that_declares_them(
    visit, lab: Lab
) -> None:
    hour = minutes_ago(lab, 0).replace(minute=0)
    columns = "pipeline, hour, changes, counted_change, counted_at, differs_since"
    lab.query(f"INSERT INTO etl.lakehouse_hours ({columns}) VALUES ('ecommerce', %s, 2, 1, %s, %s)", *[hour] * 3)
    _, page = visit("vera")
    card = page.get_by_role("button", name=re.compile("^ecommerce"))
    expect(card).to_contain_text("Lakehouse: 1 hour to count")
    expect(card).to_contain_text("BigQuery: 1 hour to load")
    expect(card).to_contain_text("1 hour counted differently in lakehouse and warehouse: run Verify")
    expect(page.get_by_role("button", name=re.compile("^recruitment"))).not_to_contain_text("Lakehouse")


def test_a_backlog_of_the_lakehouse_that_is_not_counted_to_its_end_is_shown_as_a_minimum(visit, lab: Lab) -> None:
    newest = minutes_ago(lab, 0)
    lab.conn.cursor().executemany(
        "INSERT INTO etl.minute_ledger (pipeline, minute, state, attempt, read_at, merged_at)"
        " VALUES ('ecommerce', %s, 'merged', 1, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
        [(newest - ago * MINUTE,) for ago in range(COUNT_LIMIT + 1)],
    )
    lab.conn.commit()
    _, page = visit("vera")
    card = page.get_by_role("button", name=re.compile("^ecommerce"))
    expect(card).to_contain_text("Lakehouse: 10,000 or more minutes to write")


def test_an_hour_without_rows_has_no_highest_bar(visit, lab: Lab) -> None:
    _, page = visit("vera")
    expect(page.locator("figure.rows figcaption")).to_contain_text("highest bar: 0 rows")
    expect(page.locator("dl.figures div", has_text="Oldest unmerged live change").locator("dd")).to_have_text("none")


def test_a_pipeline_with_older_batches_than_the_view_reads_is_not_shown_as_never_checked(visit, lab: Lab) -> None:
    publish(lab, minutes_ago(lab, 5), "before all others")
    newer = [(f"run {number}",) for number in range(2 * SEARCHED)]  # for two pipelines
    lab.conn.cursor().executemany(
        "INSERT INTO etl.batches (pipeline, kind, dag_id, run_id, lake_clock, options)"
        " VALUES ('ecommerce', 'minute', 'ecommerce_minute', %s, UTC_TIMESTAMP(6), '{}')",
        newer,
    )
    lab.conn.commit()
    _, page = visit("vera")
    page.get_by_role("button", name="Gates").click()
    expect(page.locator("main")).to_contain_text(
        "No check of this pipeline ran in the newest batches of all pipelines. Its next batch runs them."
    )


def test_drift_is_accepted_from_the_page(visit, lab: Lab) -> None:
    minute = minutes_ago(lab, 5)
    drift(lab, minute, new=EVIL)
    tab, page = visit("ulf")
    page.get_by_role("button", name="Drift").click()
    article = page.locator("article[data-field=job_id]")
    expect(article).to_contain_text("job_id is in none of 200 rows; over the previous day, 100 % of the rows had it.")
    expect(article).to_contain_text(f"First minute: {minute:%Y-%m-%d %H:%M}, 200 rows.")
    expect(page.locator("main img")).to_have_count(0)
    assert "owned" not in tab.title(), "A field's name is text from data."
    article.get_by_placeholder("Reason, kept in the record").fill("on purpose")
    article.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("status").filter(has_text="Accepted by ulf: job_id disappeared")).to_be_visible()
    expect(article).to_contain_text("Accepted by ulf at")
    expect(article.get_by_role("button")).to_have_count(0)
    assert lab.pending() == [minute]
    page.get_by_role("button", name=re.compile("^Held")).click()
    expect(page.locator(f"article[data-minute='{text(minute)}']")).to_contain_text("Its drift is accepted.")


def test_a_viewer_finds_no_form_or_button_that_would_be_refused(visit, lab: Lab) -> None:
    hold(lab, minutes_ago(lab, 5))
    _, page = visit("vera")
    page.get_by_role("button", name=re.compile("^Held")).click()
    expect(page.locator("article")).to_contain_text(
        "Users with permission to edit recruitment_minute can release this minute."
    )
    expect(page.locator("article")).to_contain_text(
        "visible to users with permission to read the connection warehouse_etl"
    )
    expect(page.get_by_role("button", name="Release")).to_have_count(0)
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("main")).to_contain_text(
        "To start a verification you need permission to trigger minutemark_verify."
    )
    expect(page.get_by_role("button", name="Start verification")).to_have_count(0)
    page.get_by_role("button", name="Backfill").click()
    expect(page.locator("main")).to_contain_text(
        "To start a backfill you need permission to edit recruitment_minute and to create runs of the DAG that the backfill runs."
    )


def test_a_backfill_is_planned_started_and_cancelled(visit, airflow: ApiServer, lab: Lab) -> None:
    hour = minutes_ago(lab, 0).replace(minute=0) - timedelta(hours=5)
    publish(lab, hour + 5 * MINUTE, "one", rows=4)
    _, page = visit("ulf")
    page.get_by_role("button", name="Backfill").click()
    page.get_by_label("From (UTC)").fill(f"{hour:%Y-%m-%dT%H:%M}")
    page.get_by_label("To (UTC), exclusive").fill(f"{hour + timedelta(hours=3):%Y-%m-%dT%H:%M}")
    page.get_by_role("button", name="Preview").click()
    plan = page.locator("article.preview")
    expect(plan).to_contain_text("3 runs of recruitment_reconcile, one after the other")
    expect(plan).to_contain_text("The ledger has 1 of these minutes, with 4 rows")
    expect(plan).to_contain_text("recruitment_reconcile is paused")
    before = airflow.send("GET", "/api/v2/backfills?dag_id=recruitment_reconcile", user="ada")
    assert before["total_entries"] == 0, "A dry run starts nothing."
    plan.get_by_role("button", name="Start this backfill").click()
    row = page.locator("main table tbody tr").first
    expect(row).to_contain_text("running")
    assert states(airflow) == {"queued": 3}
    assert not airflow.send("GET", "/api/v2/dags/recruitment_reconcile", user="ada")["is_paused"]
    row.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").filter(has_text="is cancelled")).to_be_visible()
    expect(row).to_contain_text("ended")
    assert states(airflow) == {"failed": 3}
    [made] = airflow.send("GET", "/api/v2/backfills?dag_id=recruitment_reconcile", user="ada")["backfills"]
    assert made["completed_at"] is not None


def test_runs_of_a_backfill_that_a_newer_one_repeats_are_counted_in_the_newer_one_only(
    visit, airflow: ApiServer, lab: Lab
) -> None:
    hour = minutes_ago(lab, 0).replace(minute=0) - timedelta(hours=9)
    for hours in (1, 2):
        ends = {"from_date": text(hour), "to_date": text(hour + timedelta(hours=hours))}
        request = {"dag_id": "ecommerce_reconcile", **ends, "reprocess_behavior": "completed", "max_active_runs": 1}
        made = airflow.send("POST", "/api/v2/backfills", request, user="ada")
        if hours == 1:
            airflow.send("PUT", f"/api/v2/backfills/{made['id']}/cancel", {}, user="ada")
    _, page = visit("vera")
    page.get_by_role("button", name=re.compile("^ecommerce")).click()
    page.get_by_role("button", name="Backfill").click()
    rows = page.locator("main table tbody tr")
    for row, shown in enumerate((["running", "3", "0", "0", "0"], ["ended", "–", "–", "–", "–"])):
        for column, cell in enumerate(shown, 4):
            expect(rows.nth(row).locator("td").nth(column)).to_have_text(cell)


def states(airflow: ApiServer) -> dict[str, int]:
    runs = airflow.send("GET", "/api/v2/dags/recruitment_reconcile/dagRuns", user="ada")["dag_runs"]
    result = [run["state"] for run in runs if run["run_type"] == "backfill"]
    return {state: result.count(state) for state in set(result)}


def test_a_minute_leads_to_its_run(visit, lab: Lab) -> None:
    minute = minutes_ago(lab, 3)
    publish(lab, minute, "scheduled__2026-03-01T00:00:00+00:00")
    tab, page = visit("vera")
    cell = page.locator(f".strip a[aria-label^='{minute:%Y-%m-%d %H:%M} merged: 1 in']")
    cell.click()
    tab.wait_for_url(re.compile(r"/dags/recruitment_minute/runs/scheduled__2026-03-01T00(:|%3A)00"))


def test_text_from_data_stays_text(visit, lab: Lab) -> None:
    minute = minutes_ago(lab, 3)
    lab.query(
        "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
        "VALUES ('recruitment', 'lake', %s, %s, %s, %s)",
        EVIL, minute, f"{EVIL}: {EVIL}", EVIL,
    )  # fmt: skip
    tab, page = visit("ada")
    page.get_by_role("button", name="Rejected").click()
    expect(page.locator("pre")).to_have_text(EVIL)
    expect(page.locator("main img")).to_have_count(0)
    assert "owned" not in tab.title()


def test_verification_is_started_from_the_page_and_shown(visit, airflow: ApiServer, lab: Lab) -> None:
    _, page = visit("ulf")
    page.get_by_role("button", name="Verify").click()
    page.get_by_role("button", name="Start verification").click()
    expect(page.locator("main")).to_contain_text("Verification has started.")
    expect(page.locator("article").first).to_contain_text("queued")
    path = "/api/v2/dags/minutemark_verify/dagRuns"
    [run] = airflow.send("GET", path, user="ada")["dag_runs"]
    assert run["conf"]["pipeline"] == "recruitment" and run["conf"]["from"].endswith(":00Z")

    # As the run would leave it: no scheduler is running here.
    lost = Finding("vanished_rows", minutes_ago(lab, 5), "the lake", {"rows": 3}, {"rows": 2}, "Bring them back.")
    result = PipelineReport("recruitment", "an hour", Findings(20), Findings(20))
    result.differences.add(lost, "rows are gone")
    result.add(minutes=60, lake_rows=2)
    path += f"/{quote(run['dag_run_id'])}"
    entry = {"key": "report", "value": as_json(Report([result]))}
    airflow.send("POST", f"{path}/taskInstances/verify/xcomEntries", entry, user="ada")
    airflow.send("PATCH", path, {"state": "failed"}, user="ada")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("article .badge").first).to_have_text("1 difference")
    expect(page.locator("article li")).to_contain_text("the lake: expected rows=3, found rows=2. Bring them back.")


@pytest.mark.parametrize(("start", "end"), [("2026-03-01T10:00", ""), ("2026-03-01T10:00", "2026-03-01T09:00")])
def test_a_verification_of_half_a_range_or_a_reversed_one_is_not_started(
    visit, airflow: ApiServer, lab: Lab, start: str, end: str
) -> None:
    path = "/api/v2/dags/minutemark_verify/dagRuns"
    before = airflow.send("GET", path, user="ada")["total_entries"]
    _, page = visit("ulf")
    page.get_by_role("button", name="Verify").click()
    page.get_by_label("From (UTC)").fill(start)
    page.get_by_label("To (UTC), exclusive").fill(end)
    page.get_by_role("button", name="Start verification").click()
    expect(page.get_by_role("alert")).to_contain_text("Set both From and To, with From before To")
    assert airflow.send("GET", path, user="ada")["total_entries"] == before


LEDGER = "**/minutemark/api/pipelines/recruitment/ledger*"


@pytest.fixture
def ledger(visit, lab: Lab) -> tuple:
    """A ledger of three pages, as (tab, frame, requests): the view's next request waits in `requests`."""
    see(lab, *(minutes_ago(lab, minutes) for minutes in range(1, 251)))
    tab, page = visit("vera")
    page.get_by_role("button", name="Ledger").click()
    expect(page.locator("main .pages")).to_contain_text("page 1:")
    requests: list = []
    tab.route(LEDGER, lambda request: requests.append(request), times=1)
    return tab, page, requests


def answer_late(tab, page, requests: list) -> None:
    """Answer the request that waits, and return when the page has read the answer."""
    with tab.expect_response(LEDGER) as answer:
        requests.pop().continue_()
    answer.value.finished()
    page.locator("body").evaluate("() => fetch(location.href).then((answer) => answer.text())")


def test_a_double_click_in_the_ledger_turns_one_page(ledger) -> None:
    _, page, _ = ledger
    page.get_by_role("button", name="Older").dblclick()
    expect(page.locator("main .pages")).to_contain_text("page 2:")
    answer_late(*ledger)
    expect(page.locator("main .pages")).to_contain_text("page 2:")


def test_a_late_answer_does_not_replace_a_newer_one(ledger) -> None:
    _, page, _ = ledger
    page.get_by_role("button", name="Show").click()
    page.get_by_label("State").select_option("held")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("main")).to_contain_text("The ledger has no matching minute in this range.")
    answer_late(*ledger)
    expect(page.locator("main")).to_contain_text("The ledger has no matching minute in this range.")


def test_filters_of_the_ledger_apply_to_all_its_pages_once_they_are_submitted(ledger) -> None:
    _, page, _ = ledger
    page.get_by_label("State").select_option("held")
    page.get_by_role("button", name="Older").click()
    answer_late(*ledger)
    expect(page.locator("main .pages")).to_contain_text("page 2:")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("main")).to_contain_text("The ledger has no matching minute in this range.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_light_or_dark_like_airflow(visit, lab: Lab, scheme: str) -> None:
    _, page = visit("vera", color_scheme=scheme)
    expect(page.locator("html")).to_have_class(re.compile(rf"\b{scheme}\b"))
    lightness = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor.match(/\\d+/)[0]")
    assert (int(lightness) > 128) == (scheme == "light")


def test_an_api_server_that_does_not_answer_is_reported_with_a_retry_button(visit, lab: Lab) -> None:
    tab, page = visit("vera")
    tab.route("**/minutemark/api/pipelines/recruitment/ledger*", lambda route: route.abort())
    page.get_by_role("button", name="Ledger").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    tab.unroute("**/minutemark/api/pipelines/recruitment/ledger*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("main")).to_contain_text("The ledger has no matching minute in this range.")
