// The last sixty minutes as a strip, the rows of each, and how old the newest event was over the last day.

import { loadData, runPath, toAirflow } from "./airflow.js";
import { dayChart, rowsChart } from "./charts.js";
import { badge, h, loader, table } from "./dom.js";
import { clock, duration, number, time } from "./format.js";

const MEANINGS = {
  merged: "published",
  pending: "changed and not read since; a minute is read once more after it has settled",
  open: "has not ended yet, or the lake has not been polled since it ended",
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
    load: () => loadData(`${pipeline.pipeline}/minutes`),
    parts: (content) => parts(current(), content, detail),
  });
  show();
  return { reload: show };
}

function parts(pipeline, { minutes: all, day }, detail) {
  const showDetail = (minute) => () => (detail.textContent = label(minute));
  return [
    figures(pipeline),
    h("h2", {}, "The last 60 minutes"),
    h("div", { class: "hour" }, rowsChart(all, showDetail), strip(all, showDetail), axis(all)),
    detail,
    legend(all),
    h("h2", {}, "Age of the newest published event over the last day"),
    dayChart(day),
    h("h2", {}, "Rows per minute"),
    table(
      { Minute: "", State: "", "Rows in": "n", Counted: "n", Ignored: "n", Rejected: "n", Merged: "", Run: "" },
      [...all]
        .reverse()
        .map((minute) => [
          time(minute.minute),
          badge(minute.state),
          ...["raw_rows", "counted_rows", "ignored_rows", "rejected_rows"].map((name) => number(minute[name])),
          minute.merged_at ? minute.merged_at.slice(11, 19) : "–",
          minute.run ? h("a", toAirflow(runPath(minute.run)), "run") : "–",
        ]),
    ),
  ];
}

function figures(entry) {
  const lag = (period) =>
    period ? `${duration(period.median)} · ${duration(period.p95)} · ${duration(period.worst)}` : "–";
  const hour =
    entry.lag_median === null ? null : { median: entry.lag_median, p95: entry.lag_p95, worst: entry.lag_worst };
  const all = {
    Lag: duration(entry.lag),
    "Lag, last hour: median · p95 · worst": lag(hour),
    "Lag, last day: median · p95 · worst": lag(entry.day),
    "Oldest unmerged live change": entry.delay ? duration(entry.delay) : "none",
    "Minutes pending · held": `${number(entry.pending)} · ${number(entry.held)}`,
    "Last poll": entry.look_age === null ? "never" : `${duration(entry.look_age)} ago`,
  };
  return h(
    "dl",
    { class: "figures" },
    Object.entries(all).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

function strip(all, showDetail) {
  const cells = all.map((minute) => {
    const attributes = {
      class: `cell ${minute.state}`,
      "aria-label": label(minute),
      onmouseenter: showDetail(minute),
      onfocus: showDetail(minute),
    };
    return minute.run ? h("a", { ...attributes, ...toAirflow(runPath(minute.run)) }) : h("span", attributes);
  });
  return h("div", { class: "strip" }, cells);
}

function axis(all) {
  return h(
    "div",
    { class: "strip axis", "aria-hidden": "true" },
    all.map((minute, number) => h("span", {}, number % 10 ? "" : clock(minute.minute))),
  );
}

function legend(all) {
  const states = Object.keys(MEANINGS).filter(
    (state) => state !== "closed" || all.some((minute) => minute.state === state),
  );
  return h(
    "ul",
    { class: "legend" },
    states.map((state) => h("li", {}, h("span", { class: `cell ${state}` }), `${state}: ${MEANINGS[state]}`)),
  );
}

function label(minute) {
  const rows =
    minute.raw_rows === null
      ? ""
      : `: ${number(minute.raw_rows)} in = ${number(minute.counted_rows)} counted + ` +
        `${number(minute.ignored_rows)} ignored + ${number(minute.rejected_rows)} rejected`;
  return `${time(minute.minute)} ${minute.state}${rows}${minute.reason ? `. ${minute.reason}` : ""}`;
}
