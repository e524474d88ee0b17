// Requests to this page's own server and to Airflow's API, and links to the pages of Airflow around this frame.

const ROOT = new URL("..", location.href); // this page is <root>/minutemark/pipelines

export class Refused extends Error {}

// Loads data of the page: loadData("recruitment/ledger", {from, to}).
export function loadData(path, query = {}) {
  const url = new URL(`api/pipelines${path ? `/${path}` : ""}`, location.href);
  for (const [name, value] of Object.entries(query)) if (value) url.searchParams.set(name, value);
  return send("GET", url);
}

export function change(path, body) {
  return send("POST", new URL(`api/pipelines/${path}`, location.href), body, { "X-Minutemark-Page": "1" });
}

// Airflow's own public API, as the same user.
export function airflow(method, path, body) {
  return send(method, new URL(`api/v2/${path}`, ROOT), body);
}

async function send(method, url, body, headers = {}) {
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: { Accept: "application/json", ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
      body: body && JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    throw new Refused("Airflow's API server does not answer. Check that it is running, then try again.");
  }
  const content = await response.json().catch(() => null);
  if (response.ok) return content;
  const error = new Refused(explanation(response.status, content));
  error.status = response.status;
  throw error;
}

function explanation(status, content) {
  const detail = typeof content?.detail === "string" ? content.detail : "";
  if (status === 401) return "Your session has expired. Log in on Airflow's start page, then return here.";
  if (status === 403)
    return detail && detail !== "Forbidden"
      ? detail
      : "You do not have permission for this. Ask your Airflow administrator.";
  if (detail) return detail;
  if (Array.isArray(content?.detail)) return content.detail.map((problem) => problem.msg).join(" ");
  return `The server failed (${status}). Try again, or read the log of Airflow's API server.`;
}

// Opens a page of Airflow. This frame cannot navigate the page around it; a link in that page can.
export function open(path) {
  const url = new URL(path, ROOT).href;
  if (window.parent === window) {
    location.href = url;
    return;
  }
  const link = window.parent.document.createElement("a");
  link.href = url;
  window.parent.document.body.append(link);
  link.click();
  link.remove();
}

export const runPath = (run) => `dags/${encodeURIComponent(run.dag_id)}/runs/${encodeURIComponent(run.run_id)}`;

export function toAirflow(path) {
  return {
    href: new URL(path, ROOT).href,
    onclick: (event) => {
      event.preventDefault();
      open(path);
    },
  };
}

// Light or dark as in Airflow, or else as in the browser.
export function followTheme() {
  const ownRoot = document.documentElement;
  try {
    const airflowRoot = window.parent === window ? null : window.parent.document.documentElement;
    if (!airflowRoot) return;
    const follow = () => {
      ownRoot.classList.toggle("dark", airflowRoot.classList.contains("dark"));
      ownRoot.classList.toggle("light", airflowRoot.classList.contains("light"));
    };
    follow();
    new MutationObserver(follow).observe(airflowRoot, { attributes: true, attributeFilter: ["class"] });
  } catch {
    // The page around this frame has another origin: the browser's own setting decides.
  }
}
