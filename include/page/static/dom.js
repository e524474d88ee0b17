// Creates elements. Text from data becomes text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

// h("a", {href, class, onclick, "aria-label"}, children…): functions become listeners, absent values are left out.
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function table(titles, rows) {
  const head = Object.entries(titles).map(([title, kind]) => h("th", { class: kind, scope: "col" }, title));
  const kinds = Object.values(titles);
  const body = rows.map((cells) =>
    h(
      "tr",
      {},
      cells.map((cell, at) => h("td", { class: kinds[at] }, cell)),
    ),
  );
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

export function field(label, input) {
  return h("label", {}, h("span", {}, label), input);
}

export function problem(text, retry) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, text),
    retry && h("button", { type: "button", onclick: retry }, "Try again"),
  );
}

// Replaces the children; the focus stays on the element at the same position.
export function swap(place, ...children) {
  const focusable = "a[href], button, input, select, summary";
  const at = [...place.querySelectorAll(focusable)].indexOf(document.activeElement);
  place.replaceChildren(...children);
  if (at >= 0) place.querySelectorAll(focusable)[at]?.focus({ preventScroll: true });
}

/**
 * A function that loads content, and shows its `parts` or the error in `place`. Of calls that overlap, only the newest
 * one shows anything, and none does once another view is shown.
 */
export function loader({ place, isCurrent, load, parts }) {
  let newest = 0;
  return async function show() {
    const own = ++newest;
    const isNewest = () => own === newest && isCurrent();
    try {
      const content = await load();
      if (isNewest()) swap(place, ...parts(content));
    } catch (error) {
      if (isNewest()) place.replaceChildren(problem(error.message, show));
    }
  };
}

export function emptyText(text, ...more) {
  return h("p", { class: "nothing" }, text, ...more);
}

export const badge = (state) => h("span", { class: `badge ${state}` }, state);
