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
  await call(button.dataset.path, { method: button.dataset.method });
  await refresh();
});

// What is left empty is as usual.
function wish(form) {
  const wanted = {};
  for (const [name, value] of new FormData(form)) {
    if (value === "") {
      continue;
    }
    if (name.startsWith("options.")) {
      wanted.options = { ...wanted.options, [name.slice("options.".length)]: value };
    } else {
      wanted[name] = name === "cpus" ? Number(value) : value;
    }
  }
  return wanted;
}

document.getElementById("launch")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  const told = form.querySelector("output");
  button.disabled = true;
  try {
    const answer = await call("/api/v1/sessions", {
      method: "POST",
      body: JSON.stringify(wish(form)),
    });
    const said = await answer.json();
    told.textContent = answer.ok ? "" : [said.message, said.hint].filter(Boolean).join(" ");
    await refresh();
  } finally {
    button.disabled = false;
  }
});

// A manager that does not answer now may do so again.
if (key) {
  setInterval(() => refresh().catch(() => {}), refreshEvery);
}
