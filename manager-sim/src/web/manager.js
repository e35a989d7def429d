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

function call(method, path, body) {
  return fetch(path, { method, body, headers: { "X-Hpc-Manager": "1" } });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-method]");
  if (!button) {
    return;
  }
  button.disabled = true;
  await call(button.dataset.method, button.dataset.path);
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
    const answer = await call("POST", "/api/v1/sessions", JSON.stringify(wish(form)));
    const said = await answer.json();
    told.textContent = answer.ok ? "" : [said.message, said.hint].filter(Boolean).join(" ");
    await refresh();
  } finally {
    button.disabled = false;
  }
});

// A manager that does not answer now may do so again.
setInterval(() => refresh().catch(() => {}), refreshEvery);
