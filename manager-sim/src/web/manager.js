"use strict";

const second = 1000; // milliseconds
// A stream that is alive says something every 15 s; one that a proxy on the way holds back, nothing.
const silence = 20 * second;
const firstSilence = 3 * second;
const pollEvery = 2 * second;
const logEvery = 5 * second;
// Shows that this is the manager's own page. Pages of dev servers may have its origin, but not this: it
// is kept out of addresses, storage and messages.
const key = document.querySelector('meta[name="hpc-manager-page"]')?.content;

// Calls the manager as its own page.
function call(path, { headers, ...rest } = {}) {
  const ours = { "X-Hpc-Manager": "1", "X-Hpc-Manager-Page": key };
  return fetch(path, { ...rest, headers: { ...headers, ...ours } });
}

// Signed out, or in anew: a page that is loaded again has another key, or asks for a sign-in.
function reloadIfUnknown(answer) {
  if (answer.status === 401 || answer.status === 403) {
    location.reload();
    throw new Error("not known any more");
  }
}

// What the page shows, brought to what is fresh: what is the same stays, with its focus, its scroll
// position, and whether it is open.

function isSame(shown, fresh) {
  return shown.nodeName === fresh.nodeName && shown.dataset?.key === fresh.dataset?.key;
}

function morph(shown, fresh) {
  if (shown.nodeType !== Node.ELEMENT_NODE) {
    if (shown.nodeValue !== fresh.nodeValue) {
      shown.nodeValue = fresh.nodeValue;
    }
    return;
  }
  for (const { name } of [...shown.attributes]) {
    if (!fresh.hasAttribute(name) && !["open", "disabled"].includes(name)) {
      shown.removeAttribute(name);
    }
  }
  for (const { name, value } of fresh.attributes) {
    if (shown.getAttribute(name) !== value) {
      shown.setAttribute(name, value);
    }
  }
  // The content of these is the script's.
  if (shown.matches("[data-own], [data-since]")) {
    return;
  }
  for (const [index, node] of [...fresh.childNodes].entries()) {
    const rest = [...shown.childNodes].slice(index);
    const found = rest.find((it) => isSame(it, node));
    if (found) {
      while (shown.childNodes[index] !== found) {
        shown.childNodes[index].remove();
      }
      morph(found, node);
    } else {
      shown.insertBefore(document.importNode(node, true), rest[0] ?? null);
    }
  }
  while (shown.childNodes.length > fresh.childNodes.length) {
    shown.lastChild.remove();
  }
}

// When the manager was last heard; nothing before it was heard at all.
let heard;

function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(part.id);
    if (now) {
      morph(part, now);
    }
  }
  tick();
}

function tell(trouble) {
  const told = document.getElementById("connection");
  if (told.textContent !== trouble) {
    told.textContent = trouble;
  }
}

function hear() {
  heard = Date.now();
  tell("");
}

async function refresh() {
  const answer = await call(location.pathname, { headers: { Accept: "text/html" } });
  reloadIfUnknown(answer);
  if (answer.ok) {
    show(await answer.text());
    hear();
  }
}

// The stream of events. A page that nobody sees has none: a browser has few connections to a host.

let stream;

async function read() {
  stream = new AbortController();
  const headers = { Accept: "text/event-stream" };
  const answer = await call("/api/v1/events", { headers, signal: stream.signal });
  reloadIfUnknown(answer);
  if (!answer.ok) {
    throw new Error(`status ${answer.status}`);
  }
  const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await pieces.read();
    if (done) {
      return;
    }
    hear();
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events.filter((it) => it.startsWith("data: "))) {
      show(JSON.parse(event.slice("data: ".length)).html);
    }
  }
}

function pause(milliseconds) {
  return new Promise((done) => {
    setTimeout(done, milliseconds);
  });
}

async function listen() {
  for (;;) {
    if (!document.hidden) {
      // A manager that does not answer now may do so again.
      await read().catch(() => {});
    }
    await pause(second);
  }
}

const opened = Date.now();

// Where no stream comes through, the page asks.
function poll() {
  const silent = heard ? Date.now() - heard > silence : Date.now() - opened > firstSilence;
  if (document.hidden || !(silent || stream?.signal.aborted)) {
    return;
  }
  refresh().catch(() => {
    tell("The manager does not answer. This page tries again by itself.");
  });
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.abort();
  }
});

// Times that go on by themselves, by the manager's clock.

const ahead = Date.now() / second - Number(document.querySelector("main").dataset.now);

function span(seconds) {
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-since]")) {
    const passed = Math.max(0, Math.round(Date.now() / second - ahead - Number(time.dataset.since)));
    time.textContent = `${span(passed)} ago`;
  }
}

// Logs, while they are open.

async function readLog(details) {
  const shown = details.querySelector("pre");
  const atEnd = shown.scrollHeight - shown.scrollTop - shown.clientHeight < 8;
  const answer = await call(details.dataset.log, { headers: { Accept: "application/json" } });
  let text;
  if (answer.ok) {
    text = (await answer.text()) || "Nothing was printed yet.";
  } else {
    const said = await answer.json();
    text = [said.message, said.hint].filter(Boolean).join(" ");
  }
  if (shown.textContent !== text) {
    shown.textContent = text;
    if (atEnd) {
      shown.scrollTop = shown.scrollHeight;
    }
  }
}

function readLogs() {
  for (const details of document.querySelectorAll("details[data-log][open]")) {
    readLog(details).catch(() => {});
  }
}

document.addEventListener(
  "toggle",
  (event) => {
    if (event.target.matches("details[data-log][open]")) {
      readLog(event.target).catch(() => {});
    }
  },
  true,
);

// A session is cancelled after a question.

function isMeant() {
  const dialog = document.getElementById("confirm");
  dialog.showModal();
  return new Promise((answer) => {
    // A window that nobody sees is told late that a dialog is closed.
    const submitted = (event) => answer(event.submitter.value === "cancel");
    dialog.addEventListener("submit", submitted, { once: true });
    dialog.addEventListener("cancel", () => answer(false), { once: true });
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-method]");
  if (!button || !(await isMeant())) {
    return;
  }
  button.disabled = true;
  try {
    const answer = await call(button.dataset.path, { method: button.dataset.method });
    reloadIfUnknown(answer);
    await refresh();
  } catch {
    tell("The session was not cancelled: the manager does not answer. Try again.");
  } finally {
    button.disabled = false;
  }
});

// The launch form.

// What is left empty is as usual.
function wish(form) {
  const wanted = {};
  for (const [name, value] of new FormData(form)) {
    if (value.trim() === "") {
      continue;
    }
    if (name.startsWith("options.")) {
      wanted.options = { ...wanted.options, [name.slice("options.".length)]: value.trim() };
    } else {
      wanted[name] = name === "cpus" ? Number(value) : value.trim();
    }
  }
  return wanted;
}

function clearErrors(form) {
  for (const error of form.querySelectorAll(".error")) {
    error.textContent = "";
  }
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
  }
}

// The field that a refusal names, as in "`time`: `2 years` is no time".
function fieldOf(form, hint) {
  const name = /^`([\w-]+)`: /u.exec(hint ?? "")?.[1];
  const options = [...form.elements].filter((it) => it.name?.startsWith("options.") && it.value);
  return name === "options" ? options[0] : form.elements.namedItem(name ?? "");
}

function refuse(form, said) {
  const field = fieldOf(form, said.hint);
  if (!field?.name) {
    const text = [said.message, said.hint].filter(Boolean).join(" ");
    document.getElementById("launch-error").textContent = text;
    return;
  }
  const reason = said.hint.replace(/^`[\w-]+`: /u, "");
  document.getElementById(`error-${field.name}`).textContent = `${said.message} ${reason}`;
  field.setAttribute("aria-invalid", "true");
  form.querySelector("details").open = true;
  field.focus();
}

document.getElementById("launch")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  const state = document.getElementById("launch-state");
  clearErrors(form);
  button.disabled = true;
  state.textContent = "Launching\u2026";
  try {
    const answer = await call("/api/v1/sessions", {
      method: "POST",
      body: JSON.stringify(wish(form)),
    });
    reloadIfUnknown(answer);
    if (answer.ok) {
      await refresh();
    } else {
      refuse(form, await answer.json());
    }
  } catch {
    const error = document.getElementById("launch-error");
    error.textContent = "The manager does not answer. Nothing you typed is lost; try again.";
  } finally {
    button.disabled = false;
    state.textContent = "";
  }
});

// A field that a browser itself finds wrong must be seen.
document.getElementById("launch")?.addEventListener(
  "invalid",
  (event) => {
    event.target.closest("details").open = true;
  },
  true,
);

tick();
setInterval(tick, second);
if (key) {
  listen();
  setInterval(poll, pollEvery);
  setInterval(readLogs, logEvery);
}
