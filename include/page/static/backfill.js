// Airflow's backfills of a pipeline: a form that previews and starts one, and a list with buttons that cancel them.

import { airflow, loadData, toAirflow } from "./airflow.js";
import { badge, emptyText, field, h, loader, problem, table } from "./dom.js";
import { asField, duration, number, plural, time } from "./format.js";

const CHUNKS = { hour: "one hour per run", minute: "one minute per run" };
const BEHAVIORS = {
  completed: "all, including successful runs",
  failed: "failed and missing runs",
  none: "missing runs only",
};

export function backfill({ pipeline, place, isCurrent }) {
  const end = new Date(Math.floor(Date.now() / 3600_000) * 3600_000);
  const from = h("input", {
    type: "datetime-local",
    name: "from",
    required: true,
    value: asField(new Date(end - 3600_000)),
  });
  const to = h("input", { type: "datetime-local", name: "to", required: true, value: asField(end) });
  const chunk = h("select", { name: "chunk" }, options(CHUNKS));
  const behavior = h("select", { name: "behavior" }, options(BEHAVIORS));
  const preview = h("div");
  const list = h("div", {}, h("p", { class: "quiet" }, "Loading …"));

  const showPlan = loader({ place: preview, isCurrent, load: plan, parts: previewOf });
  const show = loader({ place: list, isCurrent, load, parts });

  async function plan() {
    const known = await loadData(`${pipeline.pipeline}/backfill`, {
      from: from.value,
      to: to.value,
      chunk: chunk.value,
    });
    const request = {
      dag_id: known.dag_id,
      from_date: known.from,
      to_date: known.to,
      reprocess_behavior: behavior.value,
      max_active_runs: 1,
    };
    const [dry, dag] = await Promise.all([
      airflow("POST", "backfills/dry_run", request),
      airflow("GET", `dags/${known.dag_id}`),
    ]);
    return { known, runs: dry.total_entries, dag, request };
  }

  function previewOf({ known, runs, dag, request }) {
    const estimate = known.seconds
      ? ` At about ${duration(known.seconds)} per run this takes ${duration(known.seconds * runs)}, ` +
        "or longer because live minutes go first."
      : "";
    const button = h(
      "button",
      { type: "button", class: "main", disabled: !runs, onclick: () => begin(request, dag, button) },
      "Start this backfill",
    );
    return [
      h(
        "article",
        { class: "preview" },
        h("h3", {}, "Preview"),
        h(
          "p",
          {},
          `${plural(runs, "run")} of ${known.dag_id}, one after the other, from ${time(known.first_minute)} to `,
          `${time(known.end_minute)} UTC (${plural(known.minutes, "minute")}).${estimate}`,
        ),
        runs < known.runs ? h("p", {}, `${plural(known.runs - runs, "run")} of this range will not run again.`) : null,
        h(
          "p",
          {},
          `The ledger has ${number(known.known)} of these minutes, with ${plural(known.raw_rows, "row")}. `,
          "Each minute of the range is read from the lake and replaced, whether it changed or not",
          known.closed ? ", except closed minutes. " : ". ",
          "A minute without events is published as empty.",
        ),
        known.held
          ? h("p", {}, `${plural(known.held, "held minute")} will be read as well, and published if the checks pass.`)
          : null,
        known.closed
          ? h(
              "p",
              {},
              `${plural(known.closed, "closed minute")} will not change: the lake may lack some of the events.`,
            )
          : null,
        dag.is_paused
          ? h(
              "p",
              { class: "alert" },
              `${known.dag_id} is paused. Starting the backfill unpauses it, `,
              "and from then on it also runs on its schedule.",
            )
          : null,
        runs ? null : h("p", { class: "quiet" }, "Nothing to run. Choose another range or other runs."),
        h("p", { class: "filters" }, button, h("span", { class: "quiet" }, "Nothing has started yet.")),
      ),
    ];
  }

  function submit(event) {
    event.preventDefault();
    preview.replaceChildren(h("p", { class: "quiet" }, "Loading …"));
    showPlan();
  }

  async function begin(request, dag, button) {
    button.disabled = true;
    try {
      if (dag.is_paused) await airflow("PATCH", `dags/${request.dag_id}?update_mask=is_paused`, { is_paused: false });
      const started = await airflow("POST", "backfills", request);
      preview.replaceChildren(
        h("p", { class: "done", role: "status" }, `Backfill ${started.id} of ${request.dag_id} has started.`),
      );
      show();
    } catch (error) {
      preview.append(problem(error.message));
      button.disabled = false;
    }
  }

  async function load() {
    const dags = ["reconcile", "minute"].map((kind) => `${pipeline.pipeline}_${kind}`);
    const pages = await Promise.all(dags.map((dag) => airflow("GET", `backfills?dag_id=${dag}&order_by=-id&limit=5`)));
    const all = pages.flatMap((page) => page.backfills).sort((a, b) => b.id - a.id);
    return { all, runs: await Promise.all(all.map(progress)) };
  }

  // How many runs of the backfill are in each state. {} if a newer backfill overlaps it: Airflow's API does not
  // distinguish the runs of the two.
  async function progress(entry, at, all) {
    const overlaps = (other) =>
      other.dag_id === entry.dag_id && other.from_date <= entry.to_date && entry.from_date <= other.to_date;
    if (all.slice(0, at).some(overlaps)) return {};
    const states = ["queued", "running", "success", "failed"];
    const range = `run_type=backfill&logical_date_gte=${entry.from_date}&logical_date_lte=${entry.to_date}&limit=1`;
    const counts = await Promise.all(
      states.map((state) => airflow("GET", `dags/${entry.dag_id}/dagRuns?state=${state}&${range}`)),
    );
    return Object.fromEntries(states.map((state, at) => [state, counts[at].total_entries]));
  }

  function parts({ all, runs }) {
    if (!all.length) return [emptyText("This pipeline has no backfills yet.")];
    const rows = table(
      {
        Backfill: "n",
        DAG: "",
        From: "",
        "Last run starts": "",
        State: "",
        Queued: "n",
        Running: "n",
        Done: "n",
        "Failed or cancelled": "n",
        "": "",
      },
      all.map((entry, at) => [
        String(entry.id),
        h("a", toAirflow(`dags/${entry.dag_id}/backfills`), entry.dag_id),
        time(entry.from_date),
        time(entry.to_date),
        badge(entry.completed_at ? "ended" : entry.is_paused ? "paused" : "running"),
        ...["queued", "running", "success", "failed"].map((state) => number(runs[at][state])),
        entry.completed_at || !pipeline.may_edit
          ? ""
          : h("button", { type: "button", onclick: () => cancel(entry, runs[at]) }, "Cancel"),
      ]),
    );
    return [
      h("p", { class: "quiet" }, "Runs are not counted for a backfill whose range overlaps that of a newer one."),
      rows,
    ];
  }

  async function cancel(entry, runs) {
    try {
      await airflow("PUT", `backfills/${entry.id}/cancel`, {});
      const rest = runs.running
        ? ` ${plural(runs.running, "run")} in progress will finish, because a merge is all or nothing.`
        : "";
      preview.replaceChildren(
        h(
          "p",
          { class: "done", role: "status" },
          `Backfill ${entry.id} is cancelled. Its queued runs will not start. Merged minutes stay.${rest}`,
        ),
      );
    } catch (error) {
      preview.replaceChildren(problem(error.message));
    }
    show();
  }

  place.replaceChildren(
    h(
      "p",
      { class: "quiet" },
      "A backfill reads minutes of the lake again and replaces their contributions. Repeating it changes nothing. ",
      "Live minutes go first. Use one hour per run for days and weeks, and one minute per run for single minutes.",
    ),
    pipeline.may_edit
      ? h(
          "form",
          { class: "filters", onsubmit: submit },
          field("From (UTC)", from),
          field("To (UTC), exclusive", to),
          field("Chunk", chunk),
          field("Runs to process", behavior),
          h("button", { type: "submit", class: "main" }, "Preview"),
        )
      : h(
          "p",
          { class: "quiet" },
          `To start a backfill you need permission to edit ${pipeline.pipeline}_minute `,
          "and to create runs of the DAG that the backfill runs.",
        ),
    preview,
    h("h2", {}, "Backfills"),
    list,
  );
  show();
  return { reload: show };
}

const options = (titles) => Object.entries(titles).map(([value, title]) => h("option", { value }, title));
