"use strict";

const refreshEvery = 2000; // milliseconds
// Shows that this is the manager's own page. Pages of dev servers may have its origin, but not this: it
// is kept out of addresses, storage and messages.
const key = document.querySelector('meta[name="hpc-manager-page"]')?.content;

// Calls the manager as its own page.
function call(path, { headers, ...rest } = {}) {
  const ours = { "X-Hpc-Manager": "1", "X-Hpc-Manager-Page": key };
  return fetch(path, { ...rest, headers: { ...headers, ...ours } });
}

async function refresh() {
  const answer = await call("/", { headers: { Accept: "text/html" } });
  // Signed out, or in anew: a page that is loaded again has another key.
  if (answer.status === 401 || answer.status === 403) {
    location.reload();
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("state");
  const shown = document.getElementById("state");
  if (answer.ok && fresh.outerHTML !== shown.outerHTML) {
    shown.replaceWith(document.importNode(fresh, true));
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-method]");
  if (!button) {
    return;
  }
  button.disabled = true;
  await call("/api/v1/session", { method: button.dataset.method });
  await refresh();
});

// A manager that does not answer now may do so again.
if (key) {
  setInterval(() => refresh().catch(() => {}), refreshEvery);
}
