// The page's half of the rule `prefix(url)`.
//
// A page of a dev server believes that the origin is its own and that its neighbours are at localhost:P.
// What its markup says is moved on the way here; this file moves what its scripts say, at each door through
// which a script can hand a URL to the browser, and gives back what the page wrote where it asks again.
// Each door is patched on its own: one that a browser lacks, or that fails, is left as it was. Patched
// functions are proxies of the native ones, which keeps their names, lengths and prototypes.
"use strict";
(() => {
  // ---- The rule. src/prefix.rs is its twin: change both, and tests/prefix_corpus.json.
  function rule({ prefix, siblings, port: ownPort, front, secure }) {
    const [before, after] = siblings.split("{}");
    const byHost = before.startsWith("//");
    const usualOf = (safe) => (safe ? 443 : 80);
    // As the URL Standard strips what it reads.
    const clean = (text) => text.replace(/^[\0- ]+|[\0- ]+$/g, "").replace(/[\t\n\r]/g, "");

    // Only what is not relative to the page's directory, and leads to a server.
    function parse(text) {
      const [, scheme, rest] = /^(?:([a-z][a-z0-9+.-]*):)?([^]*)$/i.exec(text);
      const known = { undefined: [false], http: [false, false], https: [false, true], ws: [true, false], wss: [true, true] };
      const name = String(scheme).toLowerCase();
      if (!Object.hasOwn(known, name) || (scheme && name === "undefined")) return null;
      const [socket, safe] = known[name];
      const after = rest.replace(/^[/\\]+/, "");
      const slashes = rest.length - after.length;
      // The page's own scheme without two slashes is as good as none: `http:/x` is a path.
      if (slashes < 2 && !socket && (safe ?? secure) === secure) return slashes ? { path: pathOf(rest) } : null;
      const end = after.search(/[/\\?#]|$/);
      const at = authority(after.slice(0, end), usualOf(safe ?? secure));
      return at && { ...at, socket, safe, path: pathOf(after.slice(end)), start: text.length - after.length + end };
    }
    function authority(text, usual) {
      const [, user, host, digits] = /^([^]*@)?([^@]*?)(?::([0-9]*))?$/.exec(text);
      const port = digits ? Number(digits) : usual;
      if (port > 65535) return null;
      return { user: user ?? "", host: hostOf(host), port: port === usual ? undefined : port };
    }
    function hostOf(text) {
      // An international name is compared in its ASCII form alone, in which browsers state it.
      if (/[^\0-\x7f]|%[89a-f]|^[^[].*:|^:/i.test(text)) return null;
      try {
        const name = new URL(`http://${text}/`).hostname;
        return /xn--/.test(name) && /localhost/.test(name) ? null : name;
      } catch {
        return null;
      }
    }
    // Below a prefix dots would climb out, where a server's root holds them.
    function pathOf(rest) {
      const end = rest.search(/[?#]|$/);
      const path = rest.slice(0, end).replaceAll("\\", "/") || "/";
      const dots = (part) => ({ ".": 1, "..": 2 })[part.replace(/%2e/gi, ".")] ?? 0;
      const parts = path.slice(1).split("/");
      if (!parts.some(dots)) return path + rest.slice(end);
      const kept = [];
      parts.forEach((part, at) => {
        const levels = dots(part);
        if (levels === 2) kept.pop();
        if (!levels) kept.push(part);
        else if (at === parts.length - 1) kept.push("");
      });
      return `/${kept.join("/")}${rest.slice(end)}`;
    }

    const own = authority(front, undefined);
    const isFront = (to) =>
      to.host === own.host && to.port === (own.port === usualOf(secure) ? undefined : own.port);
    const isLoopback = (host) =>
      /^(?:127(?:\.[0-9]+){3}|0\.0\.0\.0|\[::1?\]|(?:.*\.)?localhost\.?)$/.test(host);
    const number = (text) => (/^[1-9][0-9]{0,4}$/.test(text) && Number(text) < 65536 ? Number(text) : null);
    const holds = (path) => path.startsWith(prefix) && /^(?:[/?#]|$)/.test(path.slice(prefix.length));
    // The port, and the path there, of a path or host that leads to another port.
    function siblingPath(path) {
      if (byHost || !path.startsWith(before)) return null;
      const [, digits, rest] = /^([^/?#]*)([^]*)$/.exec(path.slice(before.length));
      const port = number(digits);
      return port && [port, rest];
    }
    function siblingHost(to) {
      const name = `//${to.host}${to.port === undefined ? "" : `:${to.port}`}`;
      if (!byHost || name.length <= before.length + after.length) return null;
      if (!name.startsWith(before) || !name.endsWith(after)) return null;
      return number(name.slice(before.length, name.length - after.length));
    }
    // A WebSocket needs its scheme and must be as safe as the page; all else takes that of the page.
    function write(to, at, path, short) {
      const scheme = to.socket ? (secure ? "wss:" : "ws:") : "";
      // Without a prefix a path of two slashes would name another host.
      return short && !scheme && !to.user && !path.startsWith("//") ? path : `${scheme}//${to.user}${at}${path}`;
    }
    function moved(text) {
      const to = parse(text);
      if (!to) return null;
      const { host, path } = to;
      if (host === undefined) return holds(path) ? null : prefix + path;
      if (host === null || !own?.host) return null;
      if (isFront(to)) {
        const held = holds(path);
        if (!held && !siblingPath(path)) return write(to, front, prefix + path, true);
        return (to.safe ?? secure) === secure ? null : write(to, front, path, held);
      }
      if (siblingHost(to) || !(isLoopback(host) || host === own.host)) return null;
      if ((to.port ?? usualOf(to.safe ?? secure)) === ownPort) return write(to, front, prefix + path, true);
      // Where the port goes without saying, it is the browser's own machine, or the front's other business.
      if (!to.port) return null;
      return byHost
        ? write(to, before.slice(2) + to.port + after, path, false)
        : write(to, front, before + to.port + path, false);
    }
    function unmoved(text) {
      const to = parse(text);
      if (!to || to.host === null) return null;
      const rooted = (rest) => (rest.startsWith("/") ? rest : `/${rest}`);
      const beside = ([port, rest]) => `${to.socket ? "ws" : "http"}://${to.user}localhost:${port}${rooted(rest)}`;
      if (to.host !== undefined && !isFront(to)) {
        const port = siblingHost(to);
        return port && beside([port, to.path]);
      }
      const rest = prefix && holds(to.path) ? to.path.slice(prefix.length) : "//";
      if (!rest.startsWith("//")) return (to.start ? text.slice(0, to.start) : "") + rooted(rest);
      const there = to.host !== undefined && siblingPath(to.path);
      return there ? beside(there) : null;
    }

    const url = (written) => moved(clean(written)) ?? written;
    function unprefix(text) {
      const written = unmoved(clean(text));
      // Where a server cannot have written it, as it would count as moved, there is nothing to read back.
      const again = written === null ? null : moved(written);
      return again !== null && parse(again).path === parse(clean(text)).path ? written : text;
    }
    // https://html.spec.whatwg.org/multipage/images.html#parsing-a-srcset-attribute
    const srcset = (written, to = url) =>
      written.replace(
        /([,\t\n\f\r ]*)([^\t\n\f\r ]*[^,\t\n\f\r ])(,+|(?:\([^)]*(?:\)|$)|[^,(])*)/g,
        (_, space, candidate, rest) => space + to(candidate) + rest,
      );
    return { url, srcset, unprefix, holds };
  }
  // ---- End of the rule.

  const { apply, construct, getPrototypeOf, getOwnPropertyDescriptor, defineProperty } = Reflect;
  const words = (text) => text.split(" ");
  const attempt = (work, otherwise) => {
    try {
      return work();
    } catch {
      return otherwise;
    }
  };
  // The realm's own mark: a second shim there changes its view, and patches nothing twice.
  const MARK = Symbol.for("hpc-proxy");

  // A list of what is patched, one after the other.
  // eslint-disable-next-line complexity
  function install(win, given) {
    if (win[MARK]) return win[MARK](given);
    let view, config;
    const look = (next) => {
      config = next;
      view = rule(next);
    };
    look(given);
    defineProperty(win, MARK, { value: look });

    const { document } = win;
    const base = () => (document ? document.baseURI : config.base);
    const absolute = (text) => new win.URL(text, base()).href;

    // ---- URLs, as this realm resolves them.
    function url(text) {
      const from = base();
      // Below a foreign <base> a bare path is foreign.
      if (document && /^https?:/.test(from) && !from.startsWith(`${config.origin}/`)) {
        const there = attempt(() => new win.URL(text, from).href, text);
        const to = view.url(there);
        return to === there ? text : new win.URL(to, config.origin).href;
      }
      let to = view.url(text);
      if (to === text && config.prefix && /\.\.|%2e/i.test(text)) to = attempt(() => held(text, from), text);
      return document ? to : attempt(() => absolute(to), to);
    }
    // Where a relative path climbs out of the prefix, a server's root would have held it.
    function held(text, from) {
      const [page, out] = [new win.URL(from), new win.URL(text, from)];
      if (out.origin !== config.origin || !view.holds(page.pathname) || view.holds(out.pathname)) return text;
      if (/^\s*(?:[a-z]+:|[/\\])/i.test(text)) return text;
      const inside = new win.URL(text, config.origin + page.pathname.slice(config.prefix.length));
      return config.prefix + inside.pathname + inside.search + inside.hash;
    }
    const css = (text) =>
      text.replace(
        /(\burl\(\s*|@import\s+|image-set\(\s*|,\s*(?=["']))("[^"\\\n]*"|'[^'\\\n]*'|[^"'()\\\s,]+(?=\s*\)))/gi,
        (_, before, quoted) => {
          const mark = /^["']/.test(quoted) ? quoted[0] : "";
          return before + mark + url(mark ? quoted.slice(1, -1) : quoted) + mark;
        },
      );
    const refresh = (text) =>
      text.replace(/^([\d.\s]*[;,\s]\s*(?:url\s*=\s*)?["']?)([^"']+)/i, (_, before, to) => before + url(to));
    const list = (text) => view.srcset(text, url);
    const each = (text) => text.replace(/\S+/g, url);
    // A document in an attribute becomes what the proxy would have made of it in markup.
    const parseText = win.DOMParser?.prototype.parseFromString;
    function framed(text) {
      if (/<script[^>]* data-siblings=/.test(text)) return text;
      const body = attempt(() => {
        const tree = apply(parseText, new win.DOMParser(), [text, "text/html"]);
        if (!fix(tree)) return text;
        return (tree.doctype ? "<!DOCTYPE html>" : "") + tree.documentElement.outerHTML;
      }, text);
      return tag() + body;
    }
    const quoted = (text) => text.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
    const tag = () => {
      const said = { src: config.src, "data-prefix": config.prefix, "data-siblings": config.siblings, "data-port": config.port };
      if (config.doors) said["data-doors"] = "";
      const known = Object.entries(said).filter(([, value]) => value !== undefined && value !== null);
      const nonce = config.nonce ? ` nonce="${quoted(config.nonce)}"` : "";
      const shim = `<script ${known.map(([name, value]) => `${name}="${quoted(String(value))}"`).join(" ")}${nonce}></script>`;
      if (!config.prefix) return shim;
      // To the letter what the proxy writes, as a policy allows it by its hash.
      const below = `${config.prefix}/`;
      const imports = { "/": below, [below]: below };
      return `${shim}<script type="importmap"${nonce}>${JSON.stringify({ imports })}</script>`;
    };
    const importmap = (text) => {
      const map = JSON.parse(text);
      const values = (names) => {
        for (const name in names) if (typeof names[name] === "string") names[name] = url(names[name]);
      };
      values(map.imports);
      for (const scope in map.scopes) {
        values(map.scopes[scope]);
        const to = url(scope);
        if (to !== scope) {
          map.scopes[to] = map.scopes[scope];
          delete map.scopes[scope];
        }
      }
      return JSON.stringify(map);
    };

    // A trusted value needs a policy to be made anew; where the page allows none, it stays.
    let policy;
    function moved(value, how = url) {
      if (value === undefined || value === null || typeof value === "symbol") return value;
      // It was moved when it was made, and is more than its URL.
      if (win.Request && value instanceof win.Request) return value;
      const text = String(value);
      const to = how(text);
      if (to === text) return value;
      const kind = typeof value === "object" && /^Trusted(HTML|ScriptURL|Script)$/.exec(value.constructor.name)?.[1];
      if (!kind || !win.trustedTypes) return to;
      const same = (made) => made;
      policy ??= win.trustedTypes.createPolicy("hpc-proxy", { createHTML: same, createScript: same, createScriptURL: same });
      return policy[`create${kind}`](to);
    }

    // ---- How to patch.
    function owner(object, name) {
      let at = object;
      while (at && !Object.hasOwn(at, name)) at = getPrototypeOf(at);
      return at;
    }
    // `work(native, self, args)` stands for the member `part` of the property.
    function patch(object, name, part, work) {
      attempt(() => {
        const at = owner(object, name);
        const found = at && getOwnPropertyDescriptor(at, name);
        const native = found?.[part];
        if (typeof native !== "function") return;
        found[part] = new Proxy(native, {
          apply: (_, self, args) => work(native, self, args),
        });
        defineProperty(at, name, found);
      });
    }
    const proto = (name) => win[name]?.prototype;
    // The arguments at `places` of a function are URLs.
    const args = (object, names, how = url, places = [0]) => {
      for (const name of words(names)) {
        patch(object, name, "value", (native, self, given) =>
          apply(native, self, given.map((value, at) =>
            places.includes(at) ? attempt(() => moved(value, how), value) : value)));
      }
    };
    const setter = (object, names, how) => {
      for (const name of words(names)) {
        patch(object, name, "set", (native, self, [value]) =>
          apply(native, self, [attempt(() => moved(value, (text) => how(text, self)), value)]));
      }
    };
    function constructed(name, edit) {
      attempt(() => {
        const native = win[name];
        if (!native) return;
        const patched = new Proxy(native, {
          construct: (_, given, target) =>
            construct(native, attempt(() => edit([...given]), given), target === patched ? native : target),
        });
        defineProperty(win, name, { ...getOwnPropertyDescriptor(win, name), value: patched });
        defineProperty(native.prototype, "constructor", {
          ...getOwnPropertyDescriptor(native.prototype, "constructor"), value: patched,
        });
      });
    }
    const first = (how = url) => (given) => {
      if (given.length) given[0] = moved(given[0], how);
      return given;
    };

    // ---- The network.
    // A host name that is none of ours goes to the server itself.
    for (const name of words("WebSocket EventSource Request Audio")) constructed(name, first());
    constructed("FontFace", (given) => [given[0], moved(given[1], css), ...given.slice(2)]);
    args(win, "fetch open");
    args(win, "importScripts", url, [...Array(99).keys()]);
    args(proto("XMLHttpRequest"), "open", url, [1]);
    args(proto("Navigator"), "sendBeacon");
    args(proto("Worklet"), "addModule");
    args(proto("Cache"), "add match matchAll put delete");
    patch(proto("Cache"), "addAll", "value", (native, self, [all]) =>
      apply(native, self, [attempt(() => Array.from(all, (one) => moved(one)), all)]));
    args(proto("ServiceWorkerContainer"), "getRegistration");
    patch(proto("ServiceWorkerContainer"), "register", "value", (native, self, [script, options]) =>
      apply(native, self, [
        moved(script),
        options?.scope === undefined ? options : { ...options, scope: moved(options.scope) },
      ]));

    // ---- Workers. The shim runs first there, and then loads the script that was asked for.
    const { Blob } = win;
    const blobs = new Map();
    patch(win.URL, "createObjectURL", "value", (native, self, given) => {
      const made = apply(native, self, given);
      blobs.set(made, given[0]);
      return made;
    });
    patch(win.URL, "revokeObjectURL", "value", (native, self, given) => {
      blobs.delete(String(given[0]));
      return apply(native, self, given);
    });
    const launch = (given) => {
      if (!given.length) return given;
      const script = new win.URL(moved(given[0]), base());
      const isBlob = script.protocol === "blob:";
      if (isBlob ? !blobs.has(script.href) : !/^https?:$/.test(script.protocol)) return given;
      if (script.origin !== config.origin) return given;
      // The page may revoke its own before the worker has begun, and it need not call it a script, which one
      // that is imported has to be.
      const load = isBlob ? win.URL.createObjectURL(new Blob([blobs.get(script.href)], { type: "text/javascript" })) : script.href;
      const { prefix, siblings, port, front, secure, origin, src } = config;
      const said = {
        prefix, siblings, port, front, secure, origin, src, load, shown: script.href,
        base: isBlob ? `${origin}${prefix}/` : script.href, module: given[1]?.type === "module",
      };
      given[0] = trustedSrc(given[0], `${src}#${encodeURIComponent(JSON.stringify(said))}`);
      return given;
    };
    const trustedSrc = (value, to) => moved(value, () => to);
    constructed("Worker", launch);
    constructed("SharedWorker", launch);

    if (!document) return undefined;

    // ---- Elements.
    const tables = {
      href: ["a area base link use image feimage script", url],
      src: ["img script iframe frame embed source track video audio input", url],
      srcset: ["img source", list],
      imagesrcset: ["link", list],
      action: ["form", url],
      formaction: ["button input", url],
      poster: ["video", url],
      data: ["object", url],
      background: ["body table td th", url],
      ping: ["a area", each],
      manifest: ["html", url],
      srcdoc: ["iframe", framed],
      content: ["meta", refresh],
      style: ["", css],
    };
    for (const name in tables) tables[name][0] = new Set(words(tables[name][0]));
    const attribute = (name) => String(name).toLowerCase().replace(/^xlink:/, "");
    // How an attribute of an element is to be moved, if at all.
    function mover(element, name) {
      const short = attribute(name);
      if (!Object.hasOwn(tables, short)) return null;
      const [tags, how] = tables[short];
      const kind = element.localName.toLowerCase();
      if (short === "style") return how;
      if (!tags.has(kind)) return null;
      return short === "content" && !/^refresh$/i.test(element.httpEquiv) ? null : how;
    }

    // What the page wrote, for as long as the element keeps what became of it.
    const wrote = new WeakMap();
    function remember(element, name, written, became) {
      if (written === became) return;
      if (!wrote.has(element)) wrote.set(element, {});
      wrote.get(element)[attribute(name)] = [String(written), String(became)];
    }
    function written(element, name, value) {
      if (typeof value !== "string" || element.localName === "base") return value;
      const short = attribute(name);
      if (!Object.hasOwn(tables, short)) return value;
      const [before, became] = wrote.get(element)?.[short] ?? [];
      if (became === value) return before;
      const how = mover(element, name);
      return how === url ? view.unprefix(value) : how === list ? view.srcset(value, view.unprefix) : value;
    }
    function become(element, name, value) {
      return attempt(() => {
        const how = mover(element, name);
        const to = how ? moved(value, how) : value;
        if (how) remember(element, name, value, to);
        return to;
      }, value);
    }

    const [element, attr] = [proto("Element"), proto("Attr")];
    const native = {
      get: element.getAttribute,
      set: element.setAttribute,
      value: getOwnPropertyDescriptor(attr, "value"),
    };
    for (const [suffix, at] of [["", 0], ["NS", 1]]) {
      patch(element, `setAttribute${suffix}`, "value", (plain, self, given) => {
        if (given.length > at + 1) given[at + 1] = become(self, given[at], given[at + 1]);
        return apply(plain, self, given);
      });
      patch(element, `getAttribute${suffix}`, "value", (plain, self, given) => {
        const value = apply(plain, self, given);
        return attempt(() => written(self, given[at], value), value);
      });
    }
    for (const [object, name] of [[attr, "value"], [proto("Node"), "nodeValue"], [proto("Node"), "textContent"]]) {
      const mine = (self) => self instanceof win.Attr && self.ownerElement;
      patch(object, name, "set", (plain, self, [value]) => {
        const element = attempt(() => mine(self));
        if (element) return apply(plain, self, [become(element, self.name, value)]);
        const sheet = name === "textContent" && self?.localName === "style";
        return apply(plain, self, [sheet ? attempt(() => moved(value, css), value) : value]);
      });
      patch(object, name, "get", (plain, self) => {
        const value = apply(plain, self, []);
        const element = attempt(() => mine(self));
        return element ? attempt(() => written(element, self.name, value), value) : value;
      });
    }
    for (const name of words("setAttributeNode setAttributeNodeNS")) {
      patch(element, name, "value", (plain, self, given) => {
        attempt(() => {
          const value = apply(native.value.get, given[0], []);
          apply(native.value.set, given[0], [become(self, given[0].name, value)]);
        });
        return apply(plain, self, given);
      });
    }

    const HTML = (names) => words(names).map((name) => proto(`HTML${name}Element`));
    // What leads elsewhere is compared with `location`, which is as the browser sees it, and so are these.
    const leading = { href: "Anchor Area Base", action: "Form", formAction: "Button Input", ping: "Anchor Area", background: "Body", content: "Meta" };
    // What is loaded is what the page wrote: scripts find themselves and their neighbours by it.
    const loading = {
      src: "Image Script IFrame Frame Embed Source Track Media Input", href: "Link", data: "Object", poster: "Video",
      srcset: "Image Source", imageSrcset: "Link", srcdoc: "IFrame",
    };
    for (const [props, back] of [[leading, false], [loading, true]]) {
      for (const prop in props) {
        for (const object of HTML(props[prop])) {
          patch(object, prop, "set", (plain, self, [value]) => apply(plain, self, [become(self, prop, value)]));
          if (!back) continue;
          patch(object, prop, "get", (plain, self) => {
            const value = apply(plain, self, []);
            return attempt(() => {
              const raw = apply(native.get, self, [prop]);
              const before = written(self, prop, raw);
              const isUrl = tables[attribute(prop)][1] === url;
              return before === raw ? value : isUrl ? absolute(before) : before;
            }, value);
          });
        }
      }
    }
    setter(proto("SVGAnimatedString"), "baseVal", url);
    patch(proto("HTMLMetaElement"), "httpEquiv", "set", (plain, self, given) => {
      apply(plain, self, given);
      attempt(() => self.setAttribute("content", apply(native.get, self, ["content"]) ?? ""));
    });

    // ---- Markup.
    const hasUrls = (text) =>
      /[\s"'/](?:xlink:)?(?:href|src(?:set|doc)?|imagesrcset|(?:form)?action|poster|data|background|ping|manifest|content|style)\s*=|<style|<template/i.test(text);
    // Moves the URLs of a tree of which nothing is loaded yet.
    function fix(root) {
      let changed = false;
      for (const one of root.querySelectorAll("*")) {
        for (const node of one.attributes) {
          const how = mover(one, node.name);
          if (!how) continue;
          const value = apply(native.value.get, node, []);
          const to = how(value);
          if (to === value) continue;
          remember(one, node.name, value, to);
          apply(native.value.set, node, [to]);
          changed = true;
        }
        if (one.localName === "style") {
          const text = css(one.textContent);
          if (text !== one.textContent) {
            one.textContent = text;
            changed = true;
          }
        }
        for (const inner of [one.content, one.shadowRoot]) {
          if (inner?.querySelectorAll && fix(inner)) changed = true;
        }
      }
      return changed;
    }
    let inert;
    // Parses as a child of `parent`, in a document that loads nothing; nothing if nothing has to move.
    function parsed(parent, parse) {
      inert ??= document.implementation.createHTMLDocument("");
      const twin = inert.importNode(parent instanceof win.ShadowRoot ? parent.host : parent, false);
      parse(twin);
      if (!fix(twin)) return null;
      const nodes = parent.ownerDocument.createDocumentFragment();
      nodes.append(...twin.childNodes);
      return nodes;
    }
    const innerHTML = getOwnPropertyDescriptor(element, "innerHTML")?.set;
    function filled(plain, self, given) {
      const raw = /^(?:style|script)$/.test(self.localName);
      if (self.localName === "style") given = [attempt(() => moved(given[0], css), given[0])];
      if (raw || !attempt(() => hasUrls(String(given[0])))) return apply(plain, self, given);
      // Nothing is loaded there.
      if (self.localName === "template" || !self.ownerDocument.defaultView) {
        const result = apply(plain, self, given);
        attempt(() => fix(self.content ?? self));
        return result;
      }
      const nodes = attempt(() => parsed(self, (twin) => apply(self instanceof win.ShadowRoot && plain !== innerHTML ? element[plain.name] ?? innerHTML : plain, twin, given)), null);
      return nodes ? self.replaceChildren(nodes) : apply(plain, self, given);
    }
    for (const object of [element, proto("ShadowRoot")]) {
      patch(object, "innerHTML", "set", (plain, self, given) =>
        filled(plain, self, given));
      for (const name of words("setHTMLUnsafe setHTML")) patch(object, name, "value", filled);
    }
    patch(element, "outerHTML", "set", (plain, self, given) => {
      const parent = self.parentElement;
      const nodes = attempt(() => hasUrls(String(given[0])) && parent && parsed(parent, (twin) => apply(innerHTML, twin, given)));
      return nodes ? self.replaceWith(nodes) : apply(plain, self, given);
    });
    const sides = { beforebegin: "before", afterbegin: "prepend", beforeend: "append", afterend: "after" };
    patch(element, "insertAdjacentHTML", "value", (plain, self, given) => {
      const side = sides[String(given[0]).toLowerCase()];
      const parent = /^(?:before|after)$/.test(side) ? self.parentElement : self;
      const nodes = attempt(() => side && hasUrls(String(given[1])) && parent && parsed(parent, (twin) => apply(innerHTML, twin, [given[1]])));
      return nodes ? self[side](nodes) : apply(plain, self, given);
    });
    const fixed = (plain, self, given) => {
      const tree = apply(plain, self, given);
      attempt(() => fix(tree));
      return tree;
    };
    patch(proto("Range"), "createContextualFragment", "value", fixed);
    patch(proto("DOMParser"), "parseFromString", "value", fixed);
    patch(win.Document, "parseHTMLUnsafe", "value", fixed);
    patch(win.Document, "parseHTML", "value", fixed);

    // What is written into the parser comes in pieces, of which no tree can be made.
    const TAG = /<([a-z][^\s/>]*)((?:"[^"]*"|'[^']*'|[^>"'])*)>/gi;
    const PART = /([^\s"'<>/=]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'>]+)/g;
    function streamed(text) {
      const tagged = text.replace(TAG, (whole, localName, parts) => {
        const httpEquiv = /http-equiv\s*=\s*["']?refresh/i.test(parts) ? "refresh" : "";
        const edited = parts.replace(PART, (part, name, equals, value) => {
          const how = mover({ localName, httpEquiv }, name);
          if (!how) return part;
          const plain = decoded(value.replace(/^(["'])([^]*)\1$/, "$2"));
          const to = how(plain);
          return to === plain ? part : `${name}${equals}"${quoted(to)}"`;
        });
        return whole.replace(parts, () => edited);
      });
      return tagged.replace(/(<style[^>]*>)([^]*?)(?=<\/style)/gi, (_, open, sheet) => open + css(sheet));
    }
    function decoded(text) {
      if (!text.includes("&")) return text;
      inert ??= document.implementation.createHTMLDocument("");
      const area = inert.createElement("textarea");
      apply(innerHTML, area, [text.replaceAll("<", "&lt;")]);
      return area.value;
    }
    for (const name of words("write writeln")) {
      patch(proto("Document"), name, "value", (plain, self, given) =>
        apply(plain, self, given.length > 1 ? [attempt(() => streamed(given.join("")), given.join(""))]
          : given.map((text) => attempt(() => moved(text, streamed), text))));
    }

    // ---- What only shows when it gets its place in the tree.
    function placed(parent, node) {
      if (parent?.localName === "style") {
        if (typeof node === "string") return css(node);
        if (node.nodeType === 3) node.data = css(node.data);
      } else if (node.localName === "script" && /^importmap$/i.test(node.type)) {
        node.textContent = importmap(node.textContent);
      } else if (node.localName === "meta" && /^refresh$/i.test(node.httpEquiv)) {
        node.content = apply(native.get, node, ["content"]);
      }
      return node;
    }
    for (const [object, names] of [
      [proto("Node"), "appendChild insertBefore replaceChild"],
      [element, "append prepend before after replaceWith replaceChildren"],
      [proto("DocumentFragment"), "append prepend replaceChildren"],
    ]) {
      for (const name of words(names)) {
        patch(object, name, "value", (plain, self, given) =>
          apply(plain, self, given.map((node) => (node ? attempt(() => placed(self, node), node) : node))));
      }
    }
    // A frame without a document of its own has this page's address, and no shim.
    function entered(inner) {
      attempt(() => {
        if (inner && inner !== win && /^about:/.test(inner.location.href)) install(inner, config);
      });
      return inner;
    }
    for (const object of HTML("IFrame Frame Object")) {
      patch(object, "contentWindow", "get", (plain, self) => entered(apply(plain, self, [])));
      patch(object, "contentDocument", "get", (plain, self) => {
        const inner = apply(plain, self, []);
        entered(inner?.defaultView);
        return inner;
      });
    }
    patch(win, "open", "value", (plain, self, given) => entered(apply(plain, self, given)));

    // ---- Styles.
    const [sheet, style] = [proto("CSSStyleSheet"), proto("CSSStyleDeclaration")];
    args(sheet, "insertRule replace replaceSync", css);
    args(sheet, "addRule", css, [1]);
    args(proto("CSSGroupingRule"), "insertRule", css);
    args(style, "setProperty", css, [1]);
    args(proto("StylePropertyMap"), "set append", css, [1, 2, 3]);
    setter(style, "cssText", css);
    setter(proto("HTMLElement"), "innerText", (text, self) => (self.localName === "style" ? css(text) : text));
    const sample = document.createElement("i").style;
    for (const prop of words("background backgroundImage borderImage borderImageSource content cursor filter listStyle listStyleImage mask maskImage clipPath shapeOutside webkitMaskImage")) {
      const name = prop.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`).replace(/^webkit/, "-webkit");
      for (const spelt of new Set([prop, name])) {
        attempt(() => {
          const at = owner(getPrototypeOf(sample), spelt);
          if (at) return setter(at, spelt, css);
          return defineProperty(style, spelt, {
            get() { return this.getPropertyValue(name); },
            set(value) { this.setProperty(name, value); },
            enumerable: true, configurable: true,
          });
        });
      }
    }
    for (const name of ["HTMLElement", "SVGElement"]) {
      // `element.style = "..."` is said of its text.
      setter(proto(name), "style", css);
    }

    // ---- Where the page goes, and what it looks for.
    args(proto("History"), "pushState replaceState", url, [2]);
    args(proto("Navigation"), "navigate");
    win.navigation?.addEventListener("navigate", (event) => {
      const { destination, navigationType } = event;
      const ours = event.cancelable && /^(?:push|replace)$/.test(navigationType);
      if (!ours || destination.sameDocument || event.formData) return;
      const to = url(destination.url);
      if (to === destination.url) return;
      // `location` itself cannot be patched.
      event.stopImmediatePropagation();
      event.preventDefault();
      win.location[navigationType === "replace" ? "replace" : "assign"](to);
    });
    const SELECTOR = /(\[\s*(?:href|src|action|formaction|poster|data)\s*\^?=\s*)(["'])(.*?)\2/gi;
    const selector = (text) =>
      text.replace(SELECTOR, (_, before, mark, value) => before + mark + url(value) + mark);
    args(element, "querySelector querySelectorAll matches closest", selector);
    args(proto("Document"), "querySelector querySelectorAll", selector);
    args(proto("DocumentFragment"), "querySelector querySelectorAll", selector);

    // ---- Cookies, which the path alone keeps apart.
    const below = (path) => (view.holds(path) ? path : config.prefix + path);
    const cookie = (text) => {
      const [pair, ...parts] = text.split(";");
      const kept = parts.filter((part) => !/^\s*domain\s*=/i.test(part));
      const put = kept.map((part) => part.replace(/^\s*path\s*=\s*(\/.*?)\s*$/i, (_, path) => ` Path=${below(path)}`));
      return [pair, ...put].join(";");
    };
    if (config.prefix) {
      setter(proto("Document"), "cookie", cookie);
      for (const name of words("set delete")) {
        patch(proto("CookieStore"), name, "value", (plain, self, [what, value]) => {
          const said = typeof what === "object" ? { ...what } : name === "set" ? { name: what, value } : { name: what };
          delete said.domain;
          return apply(plain, self, [{ ...said, path: below(said.path ?? "/") }]);
        });
      }
    }

    if (config.doors && config.prefix) doors();

    // ---- Where client routers look for their place. A router that asks its document's window
    // sees a location without the prefix, and one that asks for a <base> finds one.
    function doors() {
      const bare = (text) => view.unprefix(text);
      const place = new Proxy(win.location, {
        get(at, name) {
          const value = at[name];
          if (name === "href" || name === "pathname") return bare(value);
          if (name === "toString" || name === Symbol.toPrimitive) return () => bare(at.href);
          if (typeof value !== "function") return value;
          return (...given) => value.apply(at, given.map((one) => moved(one)));
        },
        set: (at, name, value) => {
          at[name] = name === "href" || name === "pathname" ? moved(value) : value;
          return true;
        },
      });
      const bound = new Map();
      const outer = new Proxy(win, {
        get(at, name) {
          if (name === "location") return place;
          const value = at[name];
          if (value === win) return outer;
          // Lower-case functions of a window work on the real one alone; classes stay what they are.
          if (typeof value !== "function" || !/^[a-z]/.test(String(name))) return value;
          if (!bound.has(value)) bound.set(value, value.bind(at));
          return bound.get(value);
        },
        set: (at, name, value) => {
          at[name] = name === "location" ? moved(value) : value;
          return true;
        },
      });
      patch(proto("Document"), "defaultView", "get", (plain, self) => {
        const found = apply(plain, self, []);
        return found === win ? outer : found;
      });
      // An event is of a real window.
      for (const name of words("UI Mouse Pointer Wheel Drag Keyboard Focus Input Composition Touch")) {
        constructed(`${name}Event`, (given) =>
          (given[1]?.view === outer ? [given[0], { ...given[1], view: win }] : given));
      }
      patch(proto("Document"), "querySelector", "value", (plain, self, given) => {
        const found = apply(plain, self, given);
        if (found || !config.prefix || !/^base(?:\[href\])?$/i.test(given[0])) return found;
        const made = document.createElement("base");
        made.href = `${config.prefix}/`;
        return made;
      });
    }
    return undefined;
  }

  // ---- In a page, from its tag; in a worker, from the fragment of its address.
  function begin() {
    const tag = document.currentScript;
    const src = new URL(tag.src);
    const { prefix, siblings, port } = tag.dataset;
    // A frame into which its page has looked before hides the prefix already.
    if (!src.pathname.startsWith(`${prefix}/`)) src.pathname = prefix + src.pathname;
    install(window, {
      prefix, siblings, port: port ? Number(port) : null, doors: "doors" in tag.dataset, nonce: tag.nonce,
      src: src.href, origin: src.origin, front: src.host, secure: src.protocol === "https:",
    });
  }
  function beginWorker() {
    const config = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    const load = globalThis.importScripts;
    install(globalThis, config);
    const shown = new URL(config.shown);
    Object.defineProperty(globalThis, "location", { get: () => shown, configurable: true });
    if (!config.module) return load(config.load);
    // What is sent to a module before it has loaded waits for it.
    const kept = [];
    const keep = (event) => {
      event.stopImmediatePropagation();
      kept.push(event);
    };
    const kinds = ["message", "messageerror", "connect"];
    for (const kind of kinds) addEventListener(kind, keep);
    return import(config.load).then(
      () => {
        for (const kind of kinds) removeEventListener(kind, keep);
        for (const event of kept) dispatchEvent(new event.constructor(event.type, event));
      },
      (error) => setTimeout(() => { throw error; }),
    );
  }
  if (typeof document === "undefined") beginWorker();
  else attempt(begin);
})();
