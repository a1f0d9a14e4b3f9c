// Watches a page from before its first script: when it last changed, and what it still waits for.
(() => {
  const clock = performance.now.bind(performance);
  const later = window.setTimeout, never = window.clearTimeout;
  const LONGEST = 3000; // Timers beyond it are no loading.
  const state = { changed: clock(), timers: new Map(), fired: new Map() };
  new MutationObserver(() => { state.changed = clock(); }).observe(document, {
    subtree: true, childList: true, attributes: true, characterData: true,
  });
  // A caret that blinks is no change.
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("* { caret-color: transparent !important }");
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  } catch {}
  // What a page loads after a while it loads by a timer. One that comes again and again is a poll.
  window.setTimeout = function setTimeout(work, delay, ...rest) {
    if (typeof work !== "function") return later.call(window, work, delay, ...rest);
    const wait = Number(delay) || 0;
    const key = wait + String(work).slice(0, 300);
    const id = later.call(window, function (...given) {
      state.timers.delete(id);
      if (state.fired.size < 2000) state.fired.set(key, (state.fired.get(key) || 0) + 1);
      return work.apply(this, given);
    }, delay, ...rest);
    if (wait <= LONGEST && (state.fired.get(key) || 0) < 20 && state.timers.size < 5000) {
      state.timers.set(id, { key, due: clock() + wait });
    }
    return id;
  };
  window.clearTimeout = function clearTimeout(id) { state.timers.delete(id); return never.call(window, id); };
  for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection", "WebTransport"]) {
    try { Object.defineProperty(window, name, { value: undefined, configurable: false, writable: false }); } catch {}
  }

  const LOADING = '[aria-label="Panel loading bar"], [aria-busy="true"], [role="progressbar"], .spinner, .loading, ' +
    '.spinner-border, .skeleton, .mantine-Skeleton-root, .mantine-Loader-root, .ant-spin-spinning, .euiLoadingChart, .euiLoadingSpinner';
  const seen = (element) => {
    const box = element.getBoundingClientRect();
    if (!box.width && !box.height && !element.getClientRects().length) return false;
    return !element.checkVisibility || element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  };
  // Grafana's scene: a tree of objects with a state, whose data say whether they are loading.
  const scene = () => {
    const root = window.__grafanaSceneContext;
    if (!root) return 0;
    let loading = 0, visited = new Set(), queue = [root];
    while (queue.length && visited.size < 5000) {
      const object = queue.pop();
      if (!object || typeof object !== "object" || visited.has(object)) continue;
      visited.add(object);
      if (Array.isArray(object)) { queue.push(...object.slice(0, 500)); continue; }
      const inner = object.state;
      if (!inner || typeof inner !== "object") continue;
      if (inner.data && inner.data.state === "Loading") loading += 1;
      for (const value of Object.values(inner)) if (value && typeof value === "object" && (value.state || Array.isArray(value))) queue.push(value);
    }
    return loading;
  };
  const short = (text, most) => String(text || "").replace(/\s+/g, " ").trim().slice(0, most);
  const panels = () => {
    const found = [...document.querySelectorAll('[data-testid^="data-testid Panel header"], [data-viz-panel-key]')];
    const outer = found.filter((panel) => !found.some((other) => other !== panel && other.contains(panel)));
    return outer.slice(0, 200).map((panel) => {
      const mark = panel.querySelector('[data-testid*="Panel header"]') || panel;
      const named = (mark.getAttribute("data-testid") || "").replace(/^data-testid Panel header ?/, "");
      const title = short(named || (panel.querySelector("h2, h6") || {}).textContent, 200);
      const error = panel.querySelector('[data-testid*="Panel status error"], [data-testid*="Panel data error message"], .panel-info-corner--error, [aria-label^="Panel status"]');
      const text = short(panel.innerText, 2000);
      const said = error && short(error.getAttribute("aria-label") || error.getAttribute("title") || error.textContent, 300);
      if (error) return { title, state: "error", message: said && said !== "Panel status" ? said : "the panel shows an error" };
      if (panel.querySelector('[aria-label="Panel loading bar"]')) return { title, state: "loading", message: "" };
      if (/\bNo data\b/i.test(text)) return { title, state: "no_data", message: "" };
      return { title, state: "ok", message: "" };
    });
  };
  Object.defineProperty(window, "%NAME%", { value: (what) => {
    const now = clock();
    let timers = 0;
    for (const { key, due } of state.timers.values()) {
      // The browser forgets timers of a document that it leaves; ours of it are long overdue then.
      if (now - due < 2000 && (state.fired.get(key) || 0) < 2) timers += 1;
    }
    const marks = [...document.querySelectorAll(LOADING)].filter(seen);
    const pictures = [...document.images].filter((image) => !image.complete && image.loading !== "lazy").length;
    const wanted = what.wanted ? [...document.querySelectorAll(what.wanted)].some(seen) : true;
    const answer = {
      ready: document.readyState === "complete",
      fonts: !document.fonts || document.fonts.status === "loaded",
      quiet: now - state.changed, timers, marks: marks.length, pictures, scene: scene(), wanted,
      url: location.href.slice(0, 4000), title: short(document.title, 300),
      password: [...document.querySelectorAll('input[type="password"]')].some(seen),
    };
    if (what.panels) answer.panels = panels();
    if (what.size) {
      const all = document.scrollingElement || document.documentElement;
      let height = Math.max(all.scrollHeight, document.body ? document.body.scrollHeight : 0);
      for (const element of document.querySelectorAll("main, div, section")) {
        const more = element.scrollHeight - element.clientHeight;
        if (more > 16 && element.clientWidth > innerWidth / 2 && /auto|scroll/.test(getComputedStyle(element).overflowY)) {
          height = Math.max(height, innerHeight + more);
        }
      }
      answer.height = height;
    }
    if (what.element) {
      const element = document.querySelector(what.element);
      if (element) {
        element.scrollIntoView({ block: "center", inline: "center", behavior: "instant" });
        const box = element.getBoundingClientRect();
        answer.box = { x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height };
      }
    }
    return JSON.stringify(answer);
  } });
})();
