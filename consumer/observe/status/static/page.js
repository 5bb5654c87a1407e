// Keeps the page up to date without reloading it: fetches it again, and changes only what differs. Focus, scroll
// position and what is typed stay as they are. Without JavaScript the page works too, and reloads itself.
"use strict";

const REFRESH_MS = 2000;
const HISTORY_MS = 5000;
const TYPING_MS = 250;
const FETCH_MS = 10000;

let refreshed = Date.now();
let refreshTimer = 0;
let refreshes = 0;

// Changes `old` into `fresh` in place. Children with the same data-key are the same; others are matched by position.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.isEqualNode(fresh)) return;
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const name of fresh.getAttributeNames()) {
    if (old.getAttribute(name) !== fresh.getAttribute(name)) old.setAttribute(name, fresh.getAttribute(name));
  }
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key !== undefined) keyed.set(child.dataset.key, child);
  let cursor = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    const same = key === undefined ? cursor?.dataset?.key === undefined && cursor : keyed.get(key);
    if (!same) {
      old.insertBefore(child, cursor);
    } else {
      if (same === cursor) cursor = cursor.nextSibling;
      else old.insertBefore(same, cursor);
      morph(same, child);
    }
  }
  while (cursor) {
    const next = cursor.nextSibling;
    cursor.remove();
    cursor = next;
  }
}

async function get(address) {
  const response = await fetch(address, { signal: AbortSignal.timeout(FETCH_MS), cache: "no-store" });
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response;
}

function showAge(error) {
  const stale = document.getElementById("stale");
  const seconds = Math.round((Date.now() - refreshed) / 1000);
  stale.textContent = `Not updated for ${seconds} seconds: the process does not answer (${error.message})`;
  stale.hidden = false;
}

async function refresh() {
  clearTimeout(refreshTimer);
  if (document.hidden) return; // the page goes on when it is looked at again
  const number = ++refreshes;
  try {
    const text = await (await get(location.href)).text();
    if (number !== refreshes) return; // a newer one is on its way, after a search or a sort
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const old of document.querySelectorAll("[data-live]")) {
      const part = fresh.getElementById(old.id);
      if (part) morph(old, part);
    }
    refreshed = Date.now();
    document.getElementById("stale").hidden = true;
  } catch (error) {
    if (number !== refreshes) return;
    showAge(error);
  }
  refreshTimer = setTimeout(refresh, REFRESH_MS);
}

function show(parameters) {
  history.replaceState(null, "", `?${parameters}`);
  refresh();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-stay]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  show(new URL(link.href).searchParams);
});

// What people typed into a form; the hidden fields beside it are for browsers without JavaScript.
function submit(form) {
  const parameters = new URLSearchParams(location.search);
  for (const { name, value } of form.querySelectorAll("input[type=search]")) parameters.set(name, value.trim());
  parameters.delete("offset");
  show(parameters);
}

function search() {
  submit(document.getElementById("search-form"));
}

let typingTimer = 0;
document.getElementById("search").addEventListener("input", () => {
  clearTimeout(typingTimer);
  typingTimer = setTimeout(search, TYPING_MS);
});
document.getElementById("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typingTimer);
  search();
});
document.getElementById("trace-form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit(event.target);
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());

// Charts

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function compact(value) {
  return value === null || value === undefined ? "-" : new Intl.NumberFormat("en", { notation: "compact" }).format(value);
}

function clock(seconds) {
  return new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(seconds * 1000);
}

class Chart {
  constructor(id, names) {
    this.element = document.getElementById(id);
    this.names = names;
    this.plot = null;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.element);
  }

  size() {
    return { width: Math.max(this.element.clientWidth, 200), height: 190 };
  }

  draw(times, ...series) {
    const last = times.length - 1;
    const latest = this.names.map((name, index) => `${name}: ${compact(series[index].at(-1))}`).join(", ");
    this.element.setAttribute("aria-label", `Chart of the last 15 minutes; now ${latest}`);
    if (this.plot) {
      this.plot.setData([times, ...series]);
      this.showLast(last);
      return;
    }
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const strokes = [color("--first"), color("--second")];
    this.plot = new uPlot(
      {
        ...this.size(),
        cursor: { y: false, drag: { x: false, y: false } },
        scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 1) * 1.08] } },
        axes: [{ ...axis, incrs: [60, 120, 300], values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 56, values: (_, ticks) => ticks.map(compact) }],
        series: [
          {},
          ...this.names.map((label, index) => ({
            label,
            stroke: strokes[index],
            width: 2,
            dash: index ? [6, 4] : undefined,
            points: { show: false },
            value: (_, value) => compact(value),
          })),
        ],
      },
      [times, ...series],
      this.element,
    );
    this.showLast(last);
  }

  // Without a pointer on the chart, its legend has the latest values. uPlot empties it after it has drawn.
  showLast(last) {
    setTimeout(() => this.plot.cursor.left >= 0 || this.plot.setLegend({ idx: last }));
  }
}

const changes = new Chart("chart-changes", ["waiting", "still to be read"]);
const rates = new Chart("chart-rates", ["read", "accepted"]);

async function drawHistory() {
  if (!document.hidden) {
    try {
      const { points } = await (await get("api/history")).json();
      const of = (name) => points.map((point) => point[name]);
      const times = points.map((point) => Date.parse(point.at) / 1000);
      if (points.length) {
        changes.draw(times, of("pending_changes"), of("lag"));
        rates.draw(times, of("messages_per_second"), of("changes_per_second"));
      }
    } catch (error) {
      console.debug("no history", error); // `refresh` says that the process does not answer
    }
  }
  setTimeout(drawHistory, HISTORY_MS);
}

refreshTimer = setTimeout(refresh, REFRESH_MS);
drawHistory();
