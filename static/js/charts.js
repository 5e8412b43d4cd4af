// Charts. The server sends columns of numbers; the look is decided here, from the CSS tokens.

const tokens = () => {
  const css = getComputedStyle(document.documentElement);
  return Object.fromEntries(["ink", "ink-2", "line", "panel", "blue", "green", "amber", "red"].map((n) => [n, css.getPropertyValue(`--${n}`)]));
};
const fade = (rgb, alpha) => rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);

function layout(c, extra = {}, range = undefined) {
  return {
    margin: { l: 34, r: 8, t: 20, b: 22 },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "Inter, system-ui, sans-serif", size: 11.5, color: c["ink-2"] },
    showlegend: false, hovermode: "x unified", dragmode: false,
    hoverlabel: { bgcolor: c.panel, bordercolor: c.line, font: { color: c.ink, size: 12 } },
    xaxis: { type: "date", showgrid: false, zeroline: false, linecolor: c.line, tickcolor: c.line, ticks: "outside", ticklen: 4, nticks: 7, fixedrange: true, hoverformat: "%H:%M:%S", tickformat: "%H:%M", ...(range ? { range } : {}) },
    yaxis: { rangemode: "tozero", gridcolor: c.line, zeroline: false, nticks: 5, fixedrange: true },
    ...extra,
  };
}
const config = { displayModeBar: false };
const dark = matchMedia("(prefers-color-scheme: dark)");
// Plotly reads a little HTML in texts; what people typed is shown as they typed it.
const escapeText = (text) => String(text).replace(/[<&]/g, (char) => ({ "<": "&lt;", "&": "&amp;" })[char]);

/** Texts of the marks: those that lie close together share one, and none leaves the chart. */
function labels(marks, t, c) {
  const span = t.at(-1) - t[0] || 1;
  const groups = [];
  for (const mark of marks) {
    const last = groups.at(-1);
    if (last && (mark.t - last.at) / span < 0.3) last.texts.push(mark.text);
    else groups.push({ at: mark.t, texts: [mark.text] });
  }
  return groups.map(({ at, texts }) => {
    const last = texts.at(-1);
    const more = texts.length > 1 ? ` and ${texts.length - 1} more` : "";
    const text = (last.length > 30 ? `${last.slice(0, 29)}…` : last) + more;
    const late = (at - t[0]) / span > 0.5;
    const hover = { hovertext: texts.map(escapeText).join("<br>"), hoverlabel: { bgcolor: c.panel, bordercolor: c.line, font: { color: c.ink, size: 12 } }, captureevents: true };
    return { x: at * 1000, yref: "paper", y: 1, text: escapeText(text), showarrow: false, xanchor: late ? "right" : "left", yanchor: "bottom", xshift: late ? 6 : -6, font: { size: 11, color: c["ink-2"] }, ...hover };
  });
}

/** Run `then` when the element is on the screen or less than a screen away. */
function near(element, then) {
  new IntersectionObserver((entries, observer) => {
    if (entries.some((e) => e.isIntersecting)) { observer.disconnect(); then(); }
  }, { rootMargin: "100%" }).observe(element);
}

/** Run `draw` once the element has a width, and again whenever the width changes. */
function onWidth(element, draw) {
  let last = 0;
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width && width !== last) { last = width; near(element, () => whenPlotly(draw)); }
  });
  observer.observe(element);
  return observer;
}

// The slots that answered anything in the window; a line without a dot is of the whole endpoint.
const slotsOf = (lines) => [...new Set(Object.keys(lines).filter((name) => name.includes(".") && lines[name].some((v) => v)).map((name) => name.split(".")[0]))].sort();
const inkOf = (c, slot) => c[slot] ?? c["ink-2"];

const KINDS = {
  latency(lines, t, c) {
    const line = (slot, q, dash, width) => ({ x: t, y: lines[`${slot}.${q}`] ?? [], name: `${slot} ${q}`, mode: "lines", line: { color: q === "p50" ? fade(inkOf(c, slot), 0.75) : inkOf(c, slot), width, dash, shape: "linear" }, hovertemplate: "%{y:.2~f} ms" });
    return slotsOf(lines).flatMap((slot) => [line(slot, "p99", "solid", 1.8), line(slot, "p50", "dot", 1.4)]);
  },
  throughput(lines, t, c) {
    const area = (slot) => ({ x: t, y: (lines[`${slot}.rps`] ?? []).map((v) => v ?? 0), name: slot, mode: "lines", stackgroup: "one", line: { color: inkOf(c, slot), width: 1.2 }, fillcolor: fade(inkOf(c, slot), 0.28), hovertemplate: "%{y:.1f} /s" });
    return slotsOf(lines).map(area);
  },
  errors(lines, t, c) {
    const line = (slot) => ({ x: t, y: lines[`${slot}.errors`] ?? [], name: slot, mode: "lines", line: { color: inkOf(c, slot), width: 1.6 }, hovertemplate: "%{y:.2f} %" });
    return slotsOf(lines).map(line);
  },
  // One or more lines as they come, in ink: told apart by dash and strength, for colour has a meaning. Attributes: unit, limit (drawn dotted).
  lines(lines, t, c, element) {
    const unit = element.getAttribute("unit") ?? "";
    const first = (name) => name.split(/[ ,]/)[0];
    const subjects = [...new Set(Object.keys(lines).map(first))];
    return Object.entries(lines).map(([name, y]) => ({
      x: t, y, name: name.replace(/^red\./, ""), connectgaps: false, hovertemplate: `%{y:.4~g}${unit ? ` ${unit}` : ""}`, ...inkLine(name, subjects.indexOf(first(name)), c),
    }));
  },
};

const QUANTILES = { p5: 0.45, p25: 0.7, p50: 1, p75: 0.7, p95: 0.45 };
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];

/** How a line of kind "lines" is drawn: `place` says which subject of the chart it is about. */
function inkLine(name, place, c) {
  if (name.startsWith("red.")) return { mode: "lines", line: { color: c.red, width: 1.4, dash: "dot" } };
  if (name in QUANTILES) return { mode: "lines+markers", marker: { size: 3 }, line: { color: fade(c.ink, QUANTILES[name]), width: name === "p50" ? 2 : 1.2, dash: name === "p50" ? "solid" : QUANTILES[name] > 0.5 ? "dash" : "dot" } };
  const color = place % 2 ? c["ink-2"] : c.ink;
  if (name.endsWith("baseline")) return { mode: "lines", line: { color: fade(color, 0.6), width: 1.2, dash: "dot" } };
  if (name.includes("too few")) return { mode: "markers", marker: { size: 6, symbol: "circle-open", color } };
  return { mode: "lines+markers", marker: { size: 4, color }, line: { color, width: 1.7, dash: DASHES[place % DASHES.length] } };
}

const HOUR_S = 3600;
/** The times that a chart shows. Lines of few windows get at least an hour, so that one window is no edge-to-edge story. */
function shownRange(kind, { t, step }) {
  if (!t.length) return undefined;
  if (kind !== "lines") return t.length > 1 ? [t[0], t.at(-1)] : undefined;
  const end = t.at(-1) + (step ?? 0) / 2;
  return [Math.min(t[0] - (step ?? 0) / 2, end - HOUR_S), end];
}

const shared = new Map(); // one request per address, however many charts show it
function fetchOnce(url) {
  if (!shared.has(url)) {
    shared.set(url, fetch(url).then((r) => { if (!r.ok) throw new Error(r.status); return r.json(); }).finally(() => setTimeout(() => shared.delete(url), 1000)));
  }
  return shared.get(url);
}

class LiveChart extends HTMLElement {
  connectedCallback() {
    this.picker = document.querySelector("[data-window]");
    this.window = this.getAttribute("window") ?? this.picker?.querySelector("input:checked")?.value ?? "15m";
    this.onTheme = () => this.draw();
    this.onWindow = (event) => { this.window = event.target.value; this.columns = null; this.pull(); };
    this.onTick = () => this.getAttribute("live") !== "no" && this.pull();
    document.addEventListener("theme", this.onTheme);
    dark.addEventListener("change", this.onTheme);
    document.body.addEventListener("tick", this.onTick);
    this.picker?.addEventListener("change", this.onWindow);
    this.sizes = onWidth(this, () => this.draw());
    this.pull();
  }

  disconnectedCallback() {
    document.removeEventListener("theme", this.onTheme);
    dark.removeEventListener("change", this.onTheme);
    document.body.removeEventListener("tick", this.onTick);
    this.picker?.removeEventListener("change", this.onWindow);
    this.sizes.disconnect();
    if (globalThis.Plotly) Plotly.purge(this);
  }

  async pull() {
    const asked = this.window;
    const url = new URL(this.getAttribute("src"), location.href);
    if (asked) url.searchParams.set("window", asked);
    if (this.columns?.t.length) url.searchParams.set("since", this.columns.t.at(-1));
    try {
      const fresh = await fetchOnce(url.href);
      if (asked !== this.window) return; // another window was chosen meanwhile
      this.merge(fresh);
      this.removeAttribute("stale");
      this.draw();
    } catch {
      this.toggleAttribute("stale", true);
    }
  }

  /** Append the fresh columns. A time that is there already is replaced: the last bucket was still filling. */
  merge(fresh) {
    const old = this.columns;
    if (!old?.t.length) { this.columns = { ...structuredClone(fresh), size: Math.max(fresh.t.length, 1) }; return; }
    const keep = fresh.t.length ? old.t.filter((t) => t < fresh.t[0]).length : old.t.length;
    const joined = [...old.t.slice(0, keep), ...fresh.t];
    const cut = Math.max(0, joined.length - old.size);
    const lines = {};
    for (const name of new Set([...Object.keys(old.lines), ...Object.keys(fresh.lines)])) {
      const before = old.lines[name]?.slice(0, keep) ?? Array(keep).fill(null);
      const after = fresh.lines[name] ?? Array(fresh.t.length).fill(null);
      lines[name] = [...before, ...after].slice(cut);
    }
    const marks = [...old.marks.filter((m) => !fresh.marks.some((n) => n.t === m.t)), ...fresh.marks].filter((m) => m.t >= joined[cut]);
    this.columns = { t: joined.slice(cut), lines, marks, size: old.size, step: old.step };
  }

  draw() {
    if (!this.columns || !globalThis.Plotly || !this.clientWidth) return;
    const c = tokens();
    const kind = this.getAttribute("kind") ?? "lines";
    const { lines } = this.columns;
    const range = shownRange(kind, this.columns);
    const marks = range ? this.columns.marks.filter((m) => m.t >= range[0] && m.t <= range[1]) : [];
    const t = this.columns.t.map((s) => new Date(s * 1000));
    const upright = (at) => ({ type: "line", x0: at * 1000, x1: at * 1000, yref: "paper", y0: 0, y1: 1, line: { color: c["ink-2"], width: 1, dash: "dash" } });
    const shapes = [...new Set(marks.map((m) => Math.round(m.t / 5) * 5))].map(upright); // what came within five seconds is one line
    const limit = Number(this.getAttribute("limit"));
    if (limit) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: limit, y1: limit, line: { color: c.red, width: 1, dash: "dot" } });
    const annotations = ["throughput", "errors"].includes(kind) || !t.length ? [] : labels(marks, range, c);
    const empty = !t.length || Object.values(lines).every((line) => line.every((v) => (kind === "lines" ? v === null : !v)));
    if (empty) annotations.push({ xref: "paper", yref: "paper", x: 0.5, y: 0.5, text: this.getAttribute("empty") ?? "No requests in this window.", showarrow: false, font: { size: 13, color: c["ink-2"] } });
    const size = { width: this.clientWidth, height: this.clientHeight };
    const traces = KINDS[kind](lines, t, c, this);
    const legend = kind === "lines" && traces.length > 1 ? { showlegend: true, legend: { orientation: "h", y: -0.16, x: 0, font: { size: 11.5 } }, margin: { l: 40, r: 8, t: 20, b: 44 } } : {};
    const fitted = this.hasAttribute("fit") ? { yaxis: { gridcolor: c.line, zeroline: false, nticks: 5, fixedrange: true } } : {};
    Plotly.react(this, traces, layout(c, { ...size, ...legend, ...fitted, shapes, annotations }, range?.map((s) => new Date(s * 1000))), config);
    this.toggleAttribute("ready", true);
  }
}

// Two histograms side by side. Attributes: data-labels, data-ref and data-cur as JSON lists.
class BarCompare extends HTMLElement {
  connectedCallback() {
    this.onTheme = () => this.draw();
    document.addEventListener("theme", this.onTheme);
    dark.addEventListener("change", this.onTheme);
    this.sizes = onWidth(this, () => this.draw());
  }

  disconnectedCallback() {
    document.removeEventListener("theme", this.onTheme);
    dark.removeEventListener("change", this.onTheme);
    this.sizes.disconnect();
    if (globalThis.Plotly) Plotly.purge(this);
  }

  draw() {
    if (!globalThis.Plotly || !this.clientWidth) return;
    const c = tokens();
    const list = (name) => JSON.parse(this.dataset[name] || "[]");
    const bar = (name, key, color) => ({ type: "bar", name, x: list("labels").map(String), y: list(key).map(Number), marker: { color }, hovertemplate: "%{y:.1%}" });
    const legend = { showlegend: true, legend: { orientation: "h", y: 1.18, x: 0 } };
    const axes = { xaxis: { type: "category", fixedrange: true, linecolor: c.line, automargin: true }, yaxis: { tickformat: ".0%", gridcolor: c.line, fixedrange: true, nticks: 5 } };
    Plotly.react(this, [bar(this.dataset.refName ?? "Reference", "ref", fade(c["ink-2"], 0.45)), bar(this.dataset.curName ?? "Now", "cur", c.ink)],
      layout(c, { width: this.clientWidth, height: this.clientHeight, barmode: "group", bargap: 0.25, ...legend, margin: { l: 38, r: 4, t: 30, b: 24 }, ...axes }), config);
    this.toggleAttribute("ready", true);
  }
}

// Plotly is the heaviest thing on the page by far, so it is fetched once, when the first chart
// comes near the screen, and each chart is drawn in a task of its own.
let plotly;
function whenPlotly(run) {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.querySelector("meta[name=plotly]").content;
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
  });
  plotly.then(() => setTimeout(run));
}

// The chosen window stands in the address, so that a reload, a bookmark and a link show the same.
document.addEventListener("change", ({ target }) => {
  if (!target.closest("[data-window]")) return;
  const here = new URL(location.href);
  here.searchParams.set(target.name, target.value);
  history.replaceState(history.state, "", here);
});

customElements.define("live-chart", LiveChart);
customElements.define("bar-compare", BarCompare);
