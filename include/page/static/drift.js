// Fields that differ from the day before, and a form that accepts the difference.

import { loadData } from "./airflow.js";
import { badge, emptyText, h, loader } from "./dom.js";
import { number, plural, time } from "./format.js";
import { reasonForm } from "./reason.js";

export function drift({ pipeline, place, isCurrent, refresh }) {
  const status = h("p", { class: "done", role: "status", hidden: true });
  const result = h("div", {}, h("p", { class: "quiet" }, "Loading …"));

  const show = loader({ place: result, isCurrent, load: () => loadData(`${pipeline.pipeline}/drift`), parts });

  function parts({ drifts, more }) {
    if (!drifts.length) return [emptyText("No drift was found. Minutes with fewer than 100 rows are not compared.")];
    return [
      h(
        "p",
        { class: "quiet" },
        "Minutes whose fields drift are held. Fix the producer, or accept the drift: the next run reads its held ",
        "minutes again, and later minutes are no longer held for it. An acceptance ends when the field is again as it ",
        "was before; that of an undeclared field does not end. ",
        "Fields that are only reported hold no minutes.",
      ),
      more ? h("p", { class: "quiet" }, `Showing the newest ${number(drifts.length)}.`) : null,
      ...drifts.map(entry),
    ].filter(Boolean);
  }

  function entry(row) {
    return h(
      "article",
      { "data-field": row.field },
      h(
        "h3",
        {},
        /^\s|\s$|^$/.test(row.field) ? JSON.stringify(row.field) : row.field,
        ` ${row.kind === "ignored" ? "" : row.kind}`,
        badge(row.status),
      ),
      h("p", {}, row.description),
      h(
        "p",
        { class: "quiet" },
        `First minute: ${time(row.first_minute)}, ${plural(row.minute_rows, "row")}. `,
        `Found at ${time(row.found_at, true)}.`,
      ),
      row.ended_minute
        ? h("p", { class: "quiet" }, `Since ${time(row.ended_minute)}, the field is again as it was before.`)
        : null,
      row.accepted_by
        ? h(
            "p",
            { class: "done" },
            `Accepted by ${row.accepted_by} at ${time(row.accepted_at, true)}${row.reason ? `: ${row.reason}` : ""}.`,
          )
        : row.status === "reported"
          ? null
          : accept(row),
    );
  }

  function accept(row) {
    return reasonForm({
      pipeline,
      label: "Accept",
      subject: "drift",
      path: "accept",
      body: { field: row.field, kind: row.kind, drift_id: row.drift_id },
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
