// Held minutes and their release, rejected events, and the results of checks.

import { loadData, runPath, toAirflow } from "./airflow.js";
import { badge, emptyText, field, h, loader, table } from "./dom.js";
import { lastHours, number, plural, time } from "./format.js";
import { reasonForm } from "./reason.js";

const hidden = (what) => `${what} are visible to users with permission to read the connection warehouse_etl.`;

const NEXT_STEPS = {
  accepted: "Its drift is accepted. The next run reads the minute again.",
  waiting: "It waits for the other rows of its hour, and is published without a release unless too many are rejected.",
  due: "All rows of its hour are read. The next run reads the minute again.",
  touched: "It was touched after it was held. The next run reads it again.",
};

export function held({ pipeline, place, isCurrent, refresh }) {
  const status = h("p", { class: "done", role: "status", hidden: true });
  const result = h("div", {}, h("p", { class: "quiet" }, "Loading …"));

  const load = () => loadData(`${pipeline.pipeline}/held`);
  const show = loader({ place: result, isCurrent, load, parts });

  function parts({ minutes, more, sees_rows }) {
    if (!minutes.length) return [emptyText("No minute is held.")];
    return [
      h(
        "p",
        { class: "quiet" },
        "A held minute is not published: it failed a check, failed alone in Spark or the merge, or waits until its ",
        "hour is read. Other minutes continue. A held minute is read again when it changes, and published if it ",
        "passes. Release publishes it as it is, once.",
      ),
      more ? h("p", { class: "quiet" }, `Showing the oldest ${number(minutes.length)}.`) : null,
      ...minutes.map((row) => heldMinute(row, sees_rows)),
    ].filter(Boolean);
  }

  function heldMinute(row, seesRows) {
    return h(
      "article",
      { "data-minute": row.minute },
      h("h3", {}, time(row.minute), badge(row.status)),
      h("p", {}, row.reason ?? "No reason was recorded."),
      h(
        "p",
        { class: "quiet" },
        `Held since ${time(row.held_since, true)}. `,
        `Rows at the last merged read: ${number(row.rows_before)}; `,
        `at the read that was held: ${number(row.rows_now)}. `,
        row.run ? h("a", toAirflow(runPath(row.run)), "Open the run that held it") : null,
      ),
      row.checks.map((check) =>
        h(
          "div",
          {},
          h("p", {}, h("code", {}, check.check_name), ` found ${plural(check.offending_rows, "row")}`),
          samples(check.sample, seesRows),
        ),
      ),
      nextStep(row),
      ["accepted", "due", "released"].includes(row.status) ? null : release(row),
    );
  }

  function nextStep(row) {
    const because = row.released_because ? `: ${row.released_because}` : "";
    const released = `Released by ${row.released_by} at ${time(row.released_at, true)}${because}.`;
    const text = row.status === "released" ? `${released} The next run publishes it.` : NEXT_STEPS[row.status];
    return text ? h("p", { class: "done" }, text) : null;
  }

  function release(row) {
    return reasonForm({
      pipeline,
      label: "Release",
      subject: "minute",
      path: "release",
      body: { minute: row.minute },
      done,
    });
  }

  async function done(message) {
    status.textContent = message;
    status.hidden = false;
    await Promise.all([show(), refresh()]);
  }

  place.replaceChildren(status, result);
  show();
  return {};
}

export function rejected({ pipeline, place, isCurrent }) {
  const day = lastHours(24);
  const from = h("input", { type: "datetime-local", name: "from", value: day.from });
  const to = h("input", { type: "datetime-local", name: "to", value: day.to });
  const result = h("div", {}, h("p", { class: "quiet" }, "Loading …"));

  const load = () => loadData(`${pipeline.pipeline}/rejected`, { from: from.value, to: to.value });
  const show = loader({ place: result, isCurrent, load, parts });

  function parts({ groups, more, most, sees_rows }) {
    if (!groups.length)
      return [
        emptyText(
          "No rejected events in this range. Clear both fields to see all of them, including rows without a minute.",
        ),
      ];
    return [
      more
        ? h(
            "p",
            { class: "quiet" },
            `Grouped from the newest ${number(most)} rejected events of this range. `,
            "Choose a shorter range to count all of them.",
          )
        : null,
      ...groups.map((group) =>
        h(
          "article",
          {},
          h("h3", {}, `${number(group.rows)} × ${group.reason}`),
          h(
            "p",
            { class: "quiet" },
            `Origin: ${group.origin}. ${plural(group.minutes, "minute")} from ${time(group.first_minute)} to `,
            `${time(group.last_minute)}. Last rejected at ${time(group.newest, true)}.`,
          ),
          group.samples.map((sample) =>
            h(
              "div",
              {},
              h("p", {}, h("code", {}, sample.origin_key), ` ${sample.reason}`),
              "payload" in sample ? h("pre", {}, sample.payload) : null,
            ),
          ),
          sees_rows ? null : h("p", { class: "quiet" }, hidden("Payloads")),
        ),
      ),
    ].filter(Boolean);
  }

  const form = h(
    "form",
    {
      class: "filters",
      onsubmit: (event) => {
        event.preventDefault();
        show();
      },
    },
    field("From (UTC)", from),
    field("To (UTC), exclusive", to),
    h("button", { type: "submit", class: "main" }, "Show"),
  );
  place.replaceChildren(form, result);
  show();
  return {};
}

export function gates({ pipeline, place, isCurrent }) {
  const show = loader({ place, isCurrent, load: () => loadData(`${pipeline.pipeline}/gates`), parts });

  function parts({ checks, findings, batches, sees_rows }) {
    if (!checks.length)
      return [
        emptyText("No check of this pipeline ran in the newest batches of all pipelines. Its next batch runs them."),
      ];
    return [
      h("h2", {}, `Checks of about the last ${number(batches)} batches`),
      table(
        {
          Gate: "",
          Check: "",
          Severity: "",
          Runs: "n",
          Warnings: "n",
          Failures: "n",
          "Last failure or warning": "",
          Purpose: "long",
        },
        checks.map((check) => [
          check.gate,
          h("code", {}, check.check_name),
          check.severity,
          number(check.runs),
          number(check.warnings),
          number(check.failures),
          time(check.found_at, true),
          check.purpose,
        ]),
      ),
      h("h2", {}, "Failures and warnings, newest first"),
      ...(findings.length ? findings.map((row) => finding(row, sees_rows)) : [emptyText("None. Every check passed.")]),
    ];
  }

  show();
  return {};
}

function finding(row, seesRows) {
  return h(
    "article",
    {},
    h("h3", {}, row.check_name, badge(row.outcome)),
    h("p", {}, row.purpose),
    h(
      "p",
      { class: "quiet" },
      `${plural(row.offending_rows, "offending row")} at the ${row.gate} gate of batch ${row.batch_id}, `,
      `${time(row.checked_at, true)}. `,
      row.run ? h("a", toAirflow(runPath(row.run)), "Open the run") : null,
    ),
    samples(row.sample, seesRows),
  );
}

function samples(rows, seesRows) {
  if (!seesRows) return h("p", { class: "quiet" }, hidden("Samples"));
  if (!rows.length) return h("p", { class: "quiet" }, "No sample rows were kept, or housekeeping has deleted them.");
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return table(
    Object.fromEntries(names.map((name) => [name, ""])),
    rows.map((row) => names.map((name) => String(row[name] ?? "–"))),
  );
}
