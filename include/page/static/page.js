// The frame of the page: the cards of the pipelines, the views of the chosen one, and the reload every ten seconds.

import { ask, followTheme } from "./airflow.js";
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
const at = (id) => document.getElementById(id);

let overview = null;
let chosen = { pipeline: null, view: "minutes" };
let shown = null; // the view that is shown: {reload}, which loads its data again
let turn = 0; // rises with each view, so that a late response for an earlier view is dropped

function readHash() {
  const [pipeline, view] = location.hash.slice(1).split("/").map(decodeURIComponent);
  chosen = { pipeline: pipeline || null, view: VIEWS[view] ? view : "minutes" };
}

function choose(pipeline, view) {
  chosen = { pipeline, view };
  history.replaceState(null, "", `#${encodeURIComponent(pipeline)}/${view}`);
  frame();
  show();
}

async function load() {
  try {
    overview = await ask("");
  } catch (error) {
    at("pipelines").replaceChildren(problem(error.message, start));
    return false;
  }
  at("status").textContent = `${overview.user} · ${time(overview.now, true)} UTC`;
  frame();
  return true;
}

function frame() {
  const all = overview.pipelines;
  if (!all.length) {
    at("pipelines").replaceChildren(
      overview.all
        ? emptyText(
            "You do not have permission to see any pipeline. ",
            "Ask an administrator for permission to read the runs of its minute DAG.",
          )
        : emptyText("No pipeline is declared. Add one to include/pipelines."),
    );
    return;
  }
  if (!all.some((one) => one.pipeline === chosen.pipeline)) chosen.pipeline = all[0].pipeline;
  swap(at("pipelines"), ...all.map(card));
  at("views").hidden = false;
  swap(at("views"), ...Object.entries(VIEWS).map(([name, [title]]) => viewLink(name, title)));
}

function card(one) {
  const unpublished = [`${plural(one.pending, "minute")} pending`, one.held ? `${number(one.held)} held` : null];
  return h(
    "button",
    {
      type: "button",
      class: "card",
      "aria-pressed": String(one.pipeline === chosen.pipeline),
      onclick: () => choose(one.pipeline, chosen.view),
    },
    h("span", { class: "name" }, one.pipeline, badge(one.state)),
    h("span", { class: "big" }, one.lag === null ? "nothing published yet" : `newest event ${duration(one.lag)} old`),
    h(
      "span",
      { class: "quiet" },
      one.day ? `at most ${duration(one.day.p95)} old for 95 % of the last day` : one.description,
    ),
    h("span", { class: "quiet" }, unpublished.filter(Boolean).join(", ")),
    one.copies && h("span", { class: "quiet" }, `Lakehouse: ${lakehouse(one.copies, overview.now)}`),
    one.copies && one.copies.to_load !== null && h("span", { class: "quiet" }, `BigQuery: ${bigquery(one.copies)}`),
    one.copies?.differing ? h("span", { class: "alert" }, differing(one.copies.differing)) : null,
    one.alerts.map((alert) => h("span", { class: "alert" }, alert.found)),
  );
}

function lakehouse(copies, now) {
  const age = copies.merged_at && (Date.parse(now) - Date.parse(copies.merged_at)) / 1000;
  const due = copies.minutes && `${plural(copies.minutes, "minute")} to write, the first merged ${duration(age)} ago`;
  const hours = copies.hours && `${plural(copies.hours, "hour")} to count`;
  const waiting = copies.waiting && `${plural(copies.waiting, "hour")} not published until all minutes are written`;
  return [due, hours, waiting].filter(Boolean).join(", ") || "up to date";
}

const bigquery = (copies) => (copies.to_load ? `${plural(copies.to_load, "hour")} to load` : "up to date");

const differing = (hours) => `${plural(hours, "hour")} counted differently in lakehouse and warehouse: run Verify`;

const current = () => overview.pipelines.find((one) => one.pipeline === chosen.pipeline);

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
  at("view").replaceChildren(place);
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
  at("pipelines").replaceChildren(h("p", { class: "quiet" }, "Loading …"));
  if ((await load()) && overview.pipelines.length) show();
}

followTheme();
readHash();
start();
setInterval(async () => {
  if (document.hidden || !overview) return;
  if ((await load()) && shown?.reload) shown.reload();
}, REFRESH_INTERVAL);
