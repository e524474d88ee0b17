// The form of a release or an acceptance, whose reason is recorded.

import { change } from "./airflow.js";
import { h, problem } from "./dom.js";

/**
 * Sends the reason and `body` to `path`; `done` gets the message of the response.
 * Users without permission get a sentence instead of the form.
 */
export function reasonForm({ pipeline, label, subject, path, body, done }) {
  if (!pipeline.may_edit)
    return h(
      "p",
      { class: "quiet" },
      `Users with permission to edit ${pipeline.pipeline}_minute can ${label.toLowerCase()} this ${subject}.`,
    );
  const why = h("input", { type: "text", name: "why", maxlength: 500, placeholder: "Reason, kept in the record" });
  const button = h("button", { type: "submit", class: "main" }, label);
  const failure = h("div");
  async function send(event) {
    event.preventDefault();
    button.disabled = true;
    try {
      const { message } = await change(`${pipeline.pipeline}/${path}`, { ...body, why: why.value });
      await done(message);
    } catch (error) {
      failure.replaceChildren(problem(error.message));
      button.disabled = false;
    }
  }
  return h("form", { class: "filters", onsubmit: send }, why, button, failure);
}
