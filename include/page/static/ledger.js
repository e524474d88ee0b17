// The ledger of a range, page by page.

import { loadData, runPath, toAirflow } from "./airflow.js";
import { badge, emptyText, field, h, loader, table } from "./dom.js";
import { lastHours, number, time } from "./format.js";

const STATES = ["all", "pending", "held", "merged", "closed"];

export function ledger({ pipeline, place, isCurrent }) {
  const day = lastHours(24);
  const from = h("input", { type: "datetime-local", name: "from", value: day.from });
  const to = h("input", { type: "datetime-local", name: "to", value: day.to });
  const state = h(
    "select",
    { name: "state" },
    STATES.map((name) => h("option", { value: name }, name)),
  );
  const result = h("div", {}, h("p", { class: "quiet" }, "Loading …"));
  let pages = [null]; // where each page begins: the minute at which the previous page ended
  let filters = {}; // of all pages, as they were at the last submission

  const show = loader({ place: result, isCurrent, load, parts });

  function load() {
    return loadData(`${pipeline.pipeline}/ledger`, { ...filters, before: pages[pages.length - 1] });
  }

  function submit() {
    filters = { from: from.value, to: to.value, state: state.value };
    pages = [null];
    show();
  }

  function parts({ rows, more }) {
    const own = pages; // a second click on the same button changes nothing
    if (!rows.length && pages.length === 1) {
      return [emptyText("The ledger has no matching minute in this range. Choose a longer range, or all states.")];
    }
    const move = (title, disabled, go) =>
      h(
        "button",
        {
          type: "button",
          disabled,
          onclick: () => {
            pages = go();
            show();
          },
        },
        title,
      );
    return [
      h(
        "p",
        { class: "pages" },
        move("Newer", pages.length === 1, () => own.slice(0, -1)),
        move("Older", !more, () => [...own, rows[rows.length - 1].minute]),
        h(
          "span",
          { class: "quiet" },
          rows.length
            ? `page ${pages.length}: ${time(rows[rows.length - 1].minute)} to ${time(rows[0].minute)} UTC`
            : `page ${pages.length} is empty`,
        ),
      ),
      table(
        {
          Minute: "",
          State: "",
          "Rows in": "n",
          Counted: "n",
          Ignored: "n",
          Rejected: "n",
          Merged: "",
          Batch: "n",
          "Reason, options, ignored rows by kind": "long",
        },
        rows
          .map((row) => [
            time(row.minute),
            [badge(row.state), row.pending && row.state !== "seen" ? badge("pending") : null].filter(Boolean),
            ...["raw_rows", "counted_rows", "ignored_rows", "rejected_rows"].map((name) => number(row[name])),
            time(row.merged_at, true),
            row.run
              ? h("a", toAirflow(runPath(row.run)), String(row.batch_id))
              : row.batch_id
                ? String(row.batch_id)
                : "–",
            [
              row.reason,
              ...Object.entries(row.options).map(([name, value]) => `${name} = ${value}`),
              ...(row.reason
                ? []
                : Object.entries(row.ignored_by_kind).map(([kind, rows]) => `${kind} ${number(rows)}`)),
            ]
              .filter(Boolean)
              .join(", "),
          ])
          .map((cells) => cells.map((cell) => (Array.isArray(cell) ? h("span", {}, cell) : cell))),
      ),
    ];
  }

  const form = h(
    "form",
    {
      class: "filters",
      onsubmit: (event) => {
        event.preventDefault();
        submit();
      },
    },
    field("From (UTC)", from),
    field("To (UTC), exclusive", to),
    field("State", state),
    h("button", { type: "submit", class: "main" }, "Show"),
  );
  place.replaceChildren(form, result);
  submit();
  return {};
}
