"use strict";

const refreshEvery = 2000; // milliseconds

async function refresh() {
  const answer = await fetch("/", { headers: { Accept: "text/html" } });
  if (answer.status === 401) {
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
  await fetch("/api/v1/session", {
    method: button.dataset.method,
    headers: { "X-Hpc-Manager": "1" },
  });
  await refresh();
});

// A manager that does not answer now may do so again.
setInterval(() => refresh().catch(() => {}), refreshEvery);
