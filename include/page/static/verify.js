// The last runs of minutemark_verify with their results, and a form that starts a run.

import { airflow, runPath, toAirflow } from "./airflow.js";
import { badge, emptyText, field, h, loader, problem, table } from "./dom.js";
import { asField, number, plural, time } from "./format.js";

const DAG = "minutemark_verify";
const SHOWN = 5;
const REPORT = "taskInstances/verify/xcomEntries/report";

export function verify({ pipeline, overview, place, isCurrent }) {
  const end = new Date(Math.floor(Date.now() / 3600_000) * 3600_000);
  const from = h("input", { type: "datetime-local", name: "from", value: asField(new Date(end - 3600_000)) });
  const to = h("input", { type: "datetime-local", name: "to", value: asField(end) });
  const result = h("div", {}, h("p", { class: "quiet" }, "Loading …"));
  const start = h("button", { type: "submit", class: "main" }, "Start verification");
  const status = h("div");

  const show = loader({ place: result, isCurrent, load, parts });

  async function load() {
    try {
      const { dag_runs } = await airflow("GET", `dags/${DAG}/dagRuns?order_by=-run_after&limit=20`);
      const runs = dag_runs
        .filter((run) => !run.conf?.pipeline || run.conf.pipeline === pipeline.pipeline)
        .slice(0, SHOWN);
      return { runs, reports: await Promise.all(runs.map(report)) };
    } catch (error) {
      if (error.status !== 404) throw error;
      throw new Error(
        `Airflow has not loaded the DAG ${DAG} yet. Check its DAG processor, and look for import errors.`,
      );
    }
  }

  // The report of the run's task; null while the run lasts, if it left no report, or without permission to read that.
  async function report(run) {
    if (run.state !== "success" && run.state !== "failed") return null;
    try {
      const { value } = await airflow("GET", `dags/${DAG}/dagRuns/${encodeURIComponent(run.dag_run_id)}/${REPORT}`);
      let summary = typeof value === "string" ? JSON.parse(value) : value;
      if (typeof summary === "string") summary = JSON.parse(summary);
      return summary.pipelines[pipeline.pipeline] ?? null;
    } catch (error) {
      if (error.status === 404 || error.status === 403) return null;
      throw error;
    }
  }

  function parts({ runs, reports }) {
    if (!runs.length)
      return [
        emptyText(
          overview.may_verify ? "There are no verify runs yet. Start one above." : "There are no verify runs yet.",
        ),
      ];
    return runs.map((run, at) => {
      const summary = reports[at];
      const title = !summary
        ? run.state
        : summary.totals.differences
          ? plural(summary.totals.differences, "difference")
          : "no differences";
      return h(
        "article",
        {},
        h("h3", {}, `${time(run.run_after, true)} UTC`, h("span", { class: `badge ${verdict(run, summary)}` }, title)),
        h(
          "p",
          { class: "quiet" },
          summary
            ? `${summary.span}. `
            : ["queued", "running"].includes(run.state)
              ? "Not finished yet. "
              : "It has no report, or you have no permission to read it. ",
          h("a", toAirflow(runPath({ dag_id: DAG, run_id: run.dag_run_id })), "Open the run"),
        ),
        summary ? details(summary) : null,
      );
    });
  }

  async function begin(event) {
    event.preventDefault();
    status.replaceChildren();
    if ((from.value || to.value) && !(from.value && from.value < to.value)) {
      status.replaceChildren(problem("Set both From and To, with From before To, or leave both empty."));
      return;
    }
    start.disabled = true;
    try {
      const dag = await airflow("GET", `dags/${DAG}`);
      // The DAG has no schedule: unpausing it starts no scheduled run.
      if (dag.is_paused) await airflow("PATCH", `dags/${DAG}?update_mask=is_paused`, { is_paused: false });
      const span = from.value || to.value ? { from: `${from.value}:00Z`, to: `${to.value}:00Z` } : {};
      await airflow("POST", `dags/${DAG}/dagRuns`, {
        logical_date: null,
        conf: { pipeline: pipeline.pipeline, ...span },
      });
      status.replaceChildren(
        h(
          "p",
          { class: "done" },
          "Verification has started. It changes nothing, and other DAGs can run at the same time.",
        ),
      );
      show();
    } catch (error) {
      status.replaceChildren(problem(error.message));
    }
    start.disabled = false;
  }

  place.replaceChildren(
    h(
      "p",
      { class: "quiet" },
      "Verify reads every event id of the lake in a range, and compares rows and checksums with ledger, ",
      "contributions and facts. This page shows the results of the last runs.",
    ),
    overview.may_verify
      ? h(
          "form",
          { class: "filters", onsubmit: begin },
          field("From (UTC)", from),
          field("To (UTC), exclusive", to),
          start,
          h("span", { class: "quiet" }, "Leave both empty to verify everything."),
        )
      : h("p", { class: "quiet" }, `To start a verification you need permission to trigger ${DAG}.`),
    status,
    result,
  );
  show();
  return { reload: show };
}

function verdict(run, summary) {
  if (!summary) return run.state === "failed" ? "failed" : "open";
  return summary.totals.differences ? "failed" : "merged";
}

function details(summary) {
  const totals = summary.totals;
  const sums = Object.keys(totals).filter((name) => totals[name] !== null);
  const kinds = [
    ...summary.differences.map((group) => [group, "different"]),
    ...summary.apart.map((group) => [group, "apart"]),
  ];
  return h(
    "div",
    {},
    table(Object.fromEntries(sums.map((name) => [name.replace("_", " "), "n"])), [
      sums.map((name) => number(totals[name])),
    ]),
    kinds.map(([group, section]) =>
      h(
        "details",
        { open: section === "different" },
        h(
          "summary",
          {},
          section === "different" ? badge("failed") : badge("pending"),
          ` ${group.kind}, ${number(group.count)}: ${group.purpose}`,
        ),
        h(
          "ul",
          {},
          group.first.map((line) =>
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
    summary.notes.map((note) => h("p", { class: "quiet" }, note)),
  );
}

const values = (row) =>
  row
    ? Object.entries(row)
        .map(([name, value]) => `${name}=${value}`)
        .join(" ")
    : "nothing";
