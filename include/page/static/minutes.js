// The last sixty minutes as a strip, the rows of each, and how old the newest event was over the last day.

import { ask, runPath, toAirflow } from "./airflow.js";
import { dayChart, rowsChart } from "./charts.js";
import { badge, h, loader, table } from "./dom.js";
import { clock, duration, number, time } from "./format.js";

const MEANINGS = {
  merged: "published",
  pending: "changed and not read since; a minute is read once more after it has settled",
  open: "not over yet, or the lake has not been polled since it ended",
  held: "failed a check, or failed alone in Spark or the merge, and is not published; or waits until its hour is read",
  failed: "its last run failed; the next run retries it",
  empty: "no events",
  closed: "no longer read: past the retention of the lake, or its demo events were removed",
};

export function minutes({ pipeline, current, place, isCurrent }) {
  const detail = h(
    "p",
    { class: "detail", role: "status" },
    "Hover over a minute for details; click it to open its run.",
  );
  const show = loader({
    place,
    isCurrent,
    load: () => ask(`${pipeline.pipeline}/minutes`),
    parts: (content) => parts(current(), content, detail),
  });
  show();
  return { reload: show };
}

function parts(pipeline, { minutes: all, day }, detail) {
  const say = (one) => () => (detail.textContent = label(one));
  return [
    figures(pipeline),
    h("h2", {}, "The last 60 minutes"),
    h("div", { class: "hour" }, rowsChart(all, say), strip(all, say), axis(all)),
    detail,
    legend(all),
    h("h2", {}, "Age of the newest published event over the last day"),
    dayChart(day),
    h("h2", {}, "Rows per minute"),
    table(
      { Minute: "", State: "", "Rows in": "n", Counted: "n", Ignored: "n", Rejected: "n", Merged: "", Run: "" },
      [...all]
        .reverse()
        .map((one) => [
          time(one.minute),
          badge(one.state),
          ...["raw_rows", "counted_rows", "ignored_rows", "rejected_rows"].map((name) => number(one[name])),
          one.merged_at ? one.merged_at.slice(11, 19) : "–",
          one.run ? h("a", toAirflow(runPath(one.run)), "run") : "–",
        ]),
    ),
  ];
}

function figures(one) {
  const lag = (of) => (of ? `${duration(of.median)} · ${duration(of.p95)} · ${duration(of.worst)}` : "–");
  const hour = one.lag_median === null ? null : { median: one.lag_median, p95: one.lag_p95, worst: one.lag_worst };
  const all = {
    Lag: duration(one.lag),
    "Lag, last hour: median · p95 · worst": lag(hour),
    "Lag, last day: median · p95 · worst": lag(one.day),
    "Oldest unmerged change": one.delay ? duration(one.delay) : "none",
    "Minutes pending · held": `${number(one.pending)} · ${number(one.held)}`,
    "Last poll": one.look_age === null ? "never" : `${duration(one.look_age)} ago`,
  };
  return h(
    "dl",
    { class: "figures" },
    Object.entries(all).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

function strip(all, say) {
  const cells = all.map((one) => {
    const attributes = {
      class: `cell ${one.state}`,
      "aria-label": label(one),
      onmouseenter: say(one),
      onfocus: say(one),
    };
    return one.run ? h("a", { ...attributes, ...toAirflow(runPath(one.run)) }) : h("span", attributes);
  });
  return h("div", { class: "strip" }, cells);
}

function axis(all) {
  return h(
    "div",
    { class: "strip axis", "aria-hidden": "true" },
    all.map((one, number) => h("span", {}, number % 10 ? "" : clock(one.minute))),
  );
}

function legend(all) {
  const states = Object.keys(MEANINGS).filter((state) => state !== "closed" || all.some((one) => one.state === state));
  return h(
    "ul",
    { class: "legend" },
    states.map((state) => h("li", {}, h("span", { class: `cell ${state}` }), `${state}: ${MEANINGS[state]}`)),
  );
}

function label(one) {
  const rows =
    one.raw_rows === null
      ? ""
      : `: ${number(one.raw_rows)} in = ${number(one.counted_rows)} counted + ${number(one.ignored_rows)} ignored + ` +
        `${number(one.rejected_rows)} rejected`;
  return `${time(one.minute)} ${one.state}${rows}${one.reason ? `. ${one.reason}` : ""}`;
}
