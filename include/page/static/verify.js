// The last runs of minutemark_verify with their results, and a form to start one.

import { airflow, runPath, toAirflow } from "./airflow.js";
import { badge, field, h, nothing, problem, swap, table } from "./dom.js";
import { asField, number, plural, time } from "./format.js";

const DAG = "minutemark_verify";
const SHOWN = 5;
const REPORT = "taskInstances/verify/xcomEntries/report";

export function verify({ pipeline, place, isCurrent }) {
  const end = new Date(Math.floor(Date.now() / 3600_000) * 3600_000);
  const from = h("input", { type: "datetime-local", name: "from", value: asField(new Date(end - 3600_000)) });
  const to = h("input", { type: "datetime-local", name: "to", value: asField(end) });
  const result = h("div", {}, h("p", { class: "quiet" }, "Loading …"));
  const status = h("div");

  async function show() {
    try {
      const { dag_runs } = await airflow("GET", `dags/${DAG}/dagRuns?order_by=-run_after&limit=20`);
      const own = dag_runs
        .filter((run) => !run.conf?.pipeline || run.conf.pipeline === pipeline.pipeline)
        .slice(0, SHOWN);
      const reports = await Promise.all(own.map(report));
      if (isCurrent()) swap(result, ...parts(own, reports));
    } catch (error) {
      const text =
        error.status === 404
          ? `Airflow has not loaded the DAG ${DAG} yet. Check that its DAG processor runs, and its import errors.`
          : error.message;
      if (isCurrent()) result.replaceChildren(problem(text, show));
    }
  }

  // What the run's task left; null while it runs, or where it ended without a report.
  async function report(run) {
    if (run.state !== "success" && run.state !== "failed") return null;
    try {
      const { value } = await airflow("GET", `dags/${DAG}/dagRuns/${encodeURIComponent(run.dag_run_id)}/${REPORT}`);
      let found = typeof value === "string" ? JSON.parse(value) : value;
      if (typeof found === "string") found = JSON.parse(found);
      return found.pipelines[pipeline.pipeline] ?? null;
    } catch (error) {
      if (error.status === 404 || error.status === 403) return null;
      throw error;
    }
  }

  function parts(runs, reports) {
    if (!runs.length)
      return [nothing("There are no verify runs yet. Start one above; `./minutemark verify` prints its report.")];
    return runs.map((run, at) => {
      const found = reports[at];
      const words = !found
        ? run.state
        : found.totals.differences
          ? plural(found.totals.differences, "difference")
          : "no differences";
      return h(
        "article",
        {},
        h("h3", {}, `${time(run.run_after, true)} UTC`, h("span", { class: `badge ${verdict(run, found)}` }, words)),
        h(
          "p",
          { class: "quiet" },
          found
            ? `${found.span}. `
            : run.state === "failed"
              ? "It ended without a report. Read its log. "
              : "Not finished yet. ",
          h("a", toAirflow(runPath({ dag_id: DAG, run_id: run.dag_run_id })), "Open the run"),
        ),
        found ? details(found) : null,
      );
    });
  }

  async function begin(event) {
    event.preventDefault();
    status.replaceChildren();
    try {
      const dag = await airflow("GET", `dags/${DAG}`);
      // It has no schedule.
      if (dag.is_paused) await airflow("PATCH", `dags/${DAG}?update_mask=is_paused`, { is_paused: false });
      const span = from.value || to.value ? { from: `${from.value}:00Z`, to: `${to.value}:00Z` } : {};
      await airflow("POST", `dags/${DAG}/dagRuns`, {
        logical_date: null,
        conf: { pipeline: pipeline.pipeline, ...span },
      });
      status.replaceChildren(
        h("p", { class: "done" }, "Verification has started. It changes nothing, and can run beside all other DAGs."),
      );
      show();
    } catch (error) {
      status.replaceChildren(problem(error.message));
    }
  }

  place.replaceChildren(
    h(
      "p",
      { class: "quiet" },
      "Verify reads every event id of the lake in a range, and compares rows and checksums with ledger, ",
      "contributions and facts. This page shows the results of the last runs.",
    ),
    h(
      "form",
      { class: "filters", onsubmit: begin },
      field("From (UTC)", from),
      field("To (UTC), exclusive", to),
      h("button", { type: "submit", class: "main" }, "Start verification"),
      h("span", { class: "quiet" }, "Leave both empty to verify everything."),
    ),
    status,
    result,
  );
  show();
  return { again: show };
}

function verdict(run, found) {
  if (!found) return run.state === "failed" ? "failed" : "open";
  return found.totals.differences ? "failed" : "merged";
}

function details(found) {
  const totals = found.totals;
  const sums = Object.keys(totals).filter((name) => totals[name] !== null);
  const kinds = [...found.differences.map((one) => [one, "different"]), ...found.apart.map((one) => [one, "apart"])];
  return h(
    "div",
    {},
    table(Object.fromEntries(sums.map((name) => [name.replace("_", " "), "n"])), [
      sums.map((name) => number(totals[name])),
    ]),
    kinds.map(([one, what]) =>
      h(
        "details",
        { open: what === "different" },
        h(
          "summary",
          {},
          what === "different" ? badge("failed") : badge("pending"),
          ` ${one.kind}, ${number(one.count)}: ${one.purpose}`,
        ),
        h(
          "ul",
          {},
          one.first.map((line) =>
            h(
              "li",
              {},
              line.minute ? `${line.minute.slice(0, 16)} ` : "",
              `${line.where}: expected ${values(line.expected)}, found ${values(line.found)}. ${line.remedy}`,
            ),
          ),
        ),
      ),
    ),
    found.notes.map((note) => h("p", { class: "quiet" }, note)),
  );
}

const values = (of) =>
  of
    ? Object.entries(of)
        .map(([name, value]) => `${name}=${value}`)
        .join(" ")
    : "nothing";
