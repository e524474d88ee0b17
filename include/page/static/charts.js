// Two small charts, drawn as SVG.

import { emptyText, h, svg } from "./dom.js";
import { clock, duration, number, plural } from "./format.js";

const FATES = ["rejected", "ignored", "counted"]; // from the top of a bar

// Rows of each minute, stacked; as wide as the strip below it.
export function rowsChart(all, onHover) {
  const height = 90;
  const mostRows = Math.max(0, ...all.map((minute) => minute.raw_rows ?? 0));
  const scale = height / Math.max(1, mostRows);
  const bars = all.flatMap((minute, x) => {
    let y = height;
    const parts = [...FATES].reverse().map((fate) => {
      const barHeight = (minute[`${fate}_rows`] ?? 0) * scale;
      y -= barHeight;
      return svg("rect", {
        class: fate,
        x: x + 0.08,
        y,
        width: 0.84,
        height: barHeight,
        onmouseenter: onHover(minute),
      });
    });
    return parts;
  });
  const about = `Rows per minute over the last ${all.length} minutes; the highest bar has ${number(mostRows)}`;
  return h(
    "figure",
    { class: "rows" },
    svg(
      "svg",
      { viewBox: `0 0 ${all.length} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": about },
      bars,
    ),
    h(
      "figcaption",
      {},
      [...FATES].reverse().map((fate) => h("span", { class: `key ${fate}` }, fate)),
      h("span", { class: "quiet" }, `highest bar: ${plural(mostRows, "row")}`),
    ),
  );
}

// Worst and median lag of each quarter of an hour.
// The scale is logarithmic: an hour's outage should not flatten the rest.
export function dayChart(day) {
  const known = day.filter((quarter) => quarter.worst !== null);
  if (!known.length) return emptyText("Nothing was published in the last day.");
  const width = 960,
    height = 130,
    leftMargin = 46,
    bottomMargin = 18;
  const top = Math.max(60, ...known.map((quarter) => quarter.worst)) * 1.2;
  const y = (seconds) => height - (Math.log10(1 + Math.max(0, seconds)) / Math.log10(1 + top)) * height;
  const step = (width - leftMargin) / day.length;
  const bar = (quarter, at, name) =>
    quarter[name] === null
      ? null
      : svg(
          "rect",
          {
            class: name,
            x: leftMargin + at * step + 1,
            y: y(quarter[name]),
            width: step - 2,
            height: height - y(quarter[name]),
          },
          svg(
            "title",
            {},
            `${clock(quarter.at)}: median ${duration(quarter.median)}, worst ${duration(quarter.worst)}`,
          ),
        );
  const lines = [1, 10, 60, 600, 3600, 36000, 360000]
    .filter((seconds) => seconds < top)
    .flatMap((seconds) => [
      svg("line", { x1: leftMargin, x2: width, y1: y(seconds), y2: y(seconds) }),
      svg("text", { x: leftMargin - 6, y: y(seconds) + 4, "text-anchor": "end" }, duration(seconds)),
    ]);
  const hours = day.flatMap((quarter, at) =>
    at % 12 ? [] : [svg("text", { x: leftMargin + at * step, y: height + 14 }, clock(quarter.at))],
  );
  return h(
    "figure",
    { class: "day" },
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${height + bottomMargin}`, role: "img", "aria-label": "Lag over the last day" },
      lines,
      day.map((quarter, at) => bar(quarter, at, "worst")),
      day.map((quarter, at) => bar(quarter, at, "median")),
      hours,
    ),
    h(
      "figcaption",
      {},
      h("span", { class: "key median" }, "median"),
      h("span", { class: "key worst" }, "worst"),
      h("span", { class: "quiet" }, "per 15 minutes"),
    ),
  );
}
