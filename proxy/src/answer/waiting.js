"use strict";
// Looks for what the page waits for, and gives way to it once it is there.
(() => {
  const every = 1000; // milliseconds
  const texts = ["#message", "#hint"];
  const begun = Date.now();

  async function isThere() {
    const look = new AbortController();
    const answer = await fetch(location.href, {
      headers: { Accept: "text/html" },
      cache: "no-store",
      redirect: "manual",
      signal: look.signal,
    });
    if (!answer.headers.has("X-Hpc-Proxy-Waiting")) {
      look.abort();
      return true;
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const text of texts) {
      const [shown, fresh] = [document, page].map((it) => it.querySelector(text));
      if (fresh && shown.textContent !== fresh.textContent) {
        shown.textContent = fresh.textContent;
      }
    }
    return false;
  }

  async function look() {
    const seconds = Math.round((Date.now() - begun) / 1000);
    document.getElementById("waited").textContent = `Waiting for ${seconds} s.`;
    // Whoever does not answer now may do so again.
    if (await isThere().catch(() => false)) {
      document.getElementById("hint").textContent = "It is there now.";
      location.reload();
    } else {
      setTimeout(look, every);
    }
  }

  setTimeout(look, every);
})();
