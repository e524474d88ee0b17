// Airflow's backfills of a pipeline: a form that previews and starts one, and a list with a button that cancels it.

import { airflow, ask, toAirflow } from "./airflow.js";
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
    const known = await ask(`${pipeline.pipeline}/backfill`, { from: from.value, to: to.value, chunk: chunk.value });
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
    const takes = known.seconds
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
          `${time(known.end_minute)} UTC (${plural(known.minutes, "minute")}).${takes}`,
        ),
        runs < known.runs ? h("p", {}, `${plural(known.runs - runs, "run")} of this range will not run again.`) : null,
        h(
          "p",
          {},
          `The ledger has ${number(known.known)} of these minutes, with ${plural(known.raw_rows, "row")}. `,
          "Each one is read from the lake and replaced, whether it changed or not",
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
              `${plural(known.closed, "closed minute")} will not change: the lake may lack some of their events.`,
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
      const made = await airflow("POST", "backfills", request);
      preview.replaceChildren(
        h("p", { class: "done", role: "status" }, `Backfill ${made.id} of ${request.dag_id} has started.`),
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
    const all = pages.flatMap((one) => one.backfills).sort((one, other) => other.id - one.id);
    return { all, runs: await Promise.all(all.map(progress)) };
  }

  // How many runs of the backfill are in each state; {} if a newer range overlaps: their runs cannot be distinguished.
  async function progress(one, at, all) {
    const overlaps = (other) =>
      other.dag_id === one.dag_id && other.from_date <= one.to_date && one.from_date <= other.to_date;
    if (all.slice(0, at).some(overlaps)) return {};
    const states = ["queued", "running", "success", "failed"];
    const range = `run_type=backfill&logical_date_gte=${one.from_date}&logical_date_lte=${one.to_date}&limit=1`;
    const counts = await Promise.all(
      states.map((state) => airflow("GET", `dags/${one.dag_id}/dagRuns?state=${state}&${range}`)),
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
      all.map((one, at) => [
        String(one.id),
        h("a", toAirflow(`dags/${one.dag_id}/backfills`), one.dag_id),
        time(one.from_date),
        time(one.to_date),
        badge(one.completed_at ? "ended" : one.is_paused ? "paused" : "running"),
        ...["queued", "running", "success", "failed"].map((state) => number(runs[at][state])),
        one.completed_at || !pipeline.may_edit
          ? ""
          : h("button", { type: "button", onclick: () => cancel(one, runs[at]) }, "Cancel"),
      ]),
    );
    return [h("p", { class: "quiet" }, "No runs are counted for a backfill whose range a newer one overlaps."), rows];
  }

  async function cancel(one, runs) {
    try {
      await airflow("PUT", `backfills/${one.id}/cancel`, {});
      const rest = runs.running
        ? ` ${plural(runs.running, "run")} in progress will finish, because a merge is all or nothing.`
        : "";
      preview.replaceChildren(
        h(
          "p",
          { class: "done", role: "status" },
          `Backfill ${one.id} is cancelled. Its queued runs will not start. Merged minutes stay.${rest}`,
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

const options = (of) => Object.entries(of).map(([value, title]) => h("option", { value }, title));
