// Keeps the list of dev servers as it is now, without reloading the page.
"use strict";

const list = document.getElementById("servers");
const state = document.getElementById("state");
const source = new EventSource("_hpc-proxy/events");

source.onmessage = (event) => {
  state.textContent = "";
  const html = JSON.parse(event.data).html;
  if (html === source.shown) return;
  source.shown = html;
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const address = focused && focused.getAttribute("href");
  // The proxy has escaped every text in it.
  list.innerHTML = html;
  if (focused) {
    const links = [...list.querySelectorAll("a")];
    const same = links.find((link) => link.getAttribute("href") === address);
    (same || list).focus({ preventScroll: true });
  }
};

source.onerror = () => {
  // A browser tries again by itself, unless it was refused.
  state.textContent =
    source.readyState === EventSource.CLOSED
      ? "This list is not kept current any more: reload the page."
      : "Not connected; trying again.";
};
