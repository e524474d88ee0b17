// The frame of the page: the cards of the pipelines, the views of the chosen one, and the reload every ten seconds.

import { followTheme, loadData } from "./airflow.js";
import { backfill } from "./backfill.js";
import { badge, emptyText, h, problem, swap } from "./dom.js";
import { drift } from "./drift.js";
import { gates, held, rejected } from "./problems.js";
import { ledger } from "./ledger.js";
import { minutes } from "./minutes.js";
import { verify } from "./verify.js";
import { duration, number, plural, time } from "./format.js";

const REFRESH_INTERVAL = 10_000; // milliseconds
const VIEWS = {
  minutes: ["Minutes", minutes],
  ledger: ["Ledger", ledger],
  held: ["Held", held],
  drift: ["Drift", drift],
  rejected: ["Rejected", rejected],
  gates: ["Gates", gates],
  verify: ["Verify", verify],
  backfill: ["Backfill", backfill],
};
const byId = (id) => document.getElementById(id);

let overview = null;
let chosen = { pipeline: null, view: "minutes" };
let shown = null; // the view that is shown: {reload}, which loads its data again
let turn = 0; // rises with each view, so that a late response for an earlier view is dropped

function readHash() {
  const [pipeline, view] = location.hash.slice(1).split("/"); // names of pipelines need no encoding
  chosen = { pipeline: pipeline || null, view: Object.hasOwn(VIEWS, view) ? view : "minutes" };
}

function choose(pipeline, view) {
  chosen = { pipeline, view };
  history.replaceState(null, "", `#${pipeline}/${view}`);
  drawFrame();
  show();
}

async function load() {
  try {
    overview = await loadData("");
  } catch (error) {
    byId("pipelines").replaceChildren(problem(error.message, start));
    return false;
  }
  byId("status").textContent = `${overview.user} · ${time(overview.now, true)} UTC`;
  drawFrame();
  return true;
}

function drawFrame() {
  const all = overview.pipelines;
  if (!all.length) {
    byId("pipelines").replaceChildren(
      overview.all
        ? emptyText(
            "You do not have permission to see any pipeline. ",
            "Ask an administrator for permission to read the runs of its minute DAG.",
          )
        : emptyText("No pipeline is declared. Add one to include/pipelines."),
    );
    return;
  }
  if (!all.some((entry) => entry.pipeline === chosen.pipeline)) chosen.pipeline = all[0].pipeline;
  swap(byId("pipelines"), ...all.map(card));
  byId("views").hidden = false;
  swap(byId("views"), ...Object.entries(VIEWS).map(([name, [title]]) => viewLink(name, title)));
}

function card(entry) {
  const unpublished = [`${plural(entry.pending, "minute")} pending`, entry.held ? `${number(entry.held)} held` : null];
  return h(
    "button",
    {
      type: "button",
      class: "card",
      "aria-pressed": String(entry.pipeline === chosen.pipeline),
      onclick: () => choose(entry.pipeline, chosen.view),
    },
    h("span", { class: "name" }, entry.pipeline, badge(entry.state)),
    h(
      "span",
      { class: "big" },
      entry.lag === null ? "nothing published yet" : `newest event ${duration(entry.lag)} old`,
    ),
    h(
      "span",
      { class: "quiet" },
      entry.day ? `at most ${duration(entry.day.p95)} old for 95 % of the last day` : entry.description,
    ),
    h("span", { class: "quiet" }, unpublished.filter(Boolean).join(", ")),
    entry.copies && h("span", { class: "quiet" }, `Lakehouse: ${lakehouse(entry.copies, overview.now)}`),
    entry.copies &&
      entry.copies.to_load !== null &&
      h("span", { class: "quiet" }, `BigQuery: ${bigquery(entry.copies)}`),
    entry.copies?.differing ? h("span", { class: "alert" }, differing(entry.copies.differing)) : null,
    entry.alerts.map((alert) => h("span", { class: "alert" }, alert.found)),
  );
}

function lakehouse(copies, now) {
  const age = copies.merged_at && (Date.parse(now) - Date.parse(copies.merged_at)) / 1000;
  const minutes = copies.capped ? `${number(copies.minutes)} or more minutes` : plural(copies.minutes, "minute");
  const due = copies.minutes && `${minutes} to write, the first merged ${duration(age)} ago`;
  const hours = copies.hours && `${plural(copies.hours, "hour")} to count`;
  const waiting =
    copies.waiting && `${plural(copies.waiting, "hour")} keeping the last count until all minutes are written`;
  return [due, hours, waiting].filter(Boolean).join(", ") || "up to date";
}

const bigquery = (copies) => (copies.to_load ? `${plural(copies.to_load, "hour")} to load` : "up to date");

const differing = (hours) => `${plural(hours, "hour")} counted differently in lakehouse and warehouse: run Verify`;

const current = () => overview.pipelines.find((entry) => entry.pipeline === chosen.pipeline);

function viewLink(name, title) {
  const { held } = current();
  const count = name === "held" && held ? h("span", { class: "count" }, number(held)) : null;
  return h(
    "button",
    {
      type: "button",
      "aria-current": name === chosen.view ? "page" : null,
      onclick: () => choose(chosen.pipeline, name),
    },
    title,
    count,
  );
}

function show() {
  const own = ++turn;
  const place = h("section", {}, h("p", { class: "quiet" }, "Loading …"));
  byId("view").replaceChildren(place);
  shown = VIEWS[chosen.view][1]({
    pipeline: current(),
    current,
    overview,
    place,
    isCurrent: () => own === turn,
    refresh: load,
  });
}

async function start() {
  byId("pipelines").replaceChildren(h("p", { class: "quiet" }, "Loading …"));
  if ((await load()) && overview.pipelines.length) show();
}

followTheme();
readHash();
start();
setInterval(async () => {
  if (document.hidden || !overview) return;
  if ((await load()) && shown?.reload) shown.reload();
}, REFRESH_INTERVAL);
