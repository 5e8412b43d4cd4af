// The split editor: a row of number inputs becomes a bar with draggable borders.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Split `total` in whole parts that keep the proportions of `weights` (largest remainder). */
export function apportion(weights, total) {
  const sum = weights.reduce((a, b) => a + b, 0);
  const exact = weights.map((w) => (sum ? (w / sum) * total : total / weights.length));
  const parts = exact.map(Math.floor);
  const order = exact.map((x, i) => [x - parts[i], i]).sort((a, b) => b[0] - a[0]);
  for (let left = total - parts.reduce((a, b) => a + b, 0), i = 0; left > 0; left--, i++) parts[order[i][1]]++;
  return parts;
}

/** Turns a row of number inputs into a bar with draggable borders. The parts always sum to 100. */
class TrafficSplit extends HTMLElement {
  connectedCallback() {
    this.inputs = $$("input[type=number]", this);
    this.now = this.inputs.map((i) => Number(i.dataset.now ?? i.defaultValue));
    this.lead = this.inputs.find((i) => i.name === `weight_${this.getAttribute("lead")}`) ?? this.inputs.at(-1); // whose change the button names
    this.apply = this.closest("form").querySelector("[data-apply]");
    this.bar = Object.assign(document.createElement("div"), { className: "bar" });
    this.segs = this.inputs.map((input) => {
      const seg = document.createElement("div");
      seg.className = `seg ${input.name.replace("weight_", "")}`;
      this.bar.append(seg);
      return seg;
    });
    this.handles = this.inputs.slice(1).map((_, i) => this.handle(i));
    this.sum = Object.assign(document.createElement("output"), { className: "sum" });
    this.prepend(this.bar);
    $(".parts", this).append(this.sum);
    this.inputs.forEach((input, i) => input.addEventListener("input", () => this.typed(i)));
    this.reason = this.closest("form").elements.namedItem("reason");
    this.reason?.addEventListener("input", () => this.draw());
    this.draw();
  }

  get weights() { return this.inputs.map((i) => Number(i.value) || 0); }
  set weights(values) { values.forEach((v, i) => { this.inputs[i].value = v; }); this.draw(); }

  /** Give slot `slot` the share `share`; the others keep their proportions in the rest. */
  set(slot, share) {
    const i = this.inputs.findIndex((x) => x.name === `weight_${slot}`);
    if (i < 0) return;
    this.inputs[i].value = share;
    this.typed(i);
  }

  typed(i) {
    const share = Math.min(100, Math.max(0, Math.round(Number(this.inputs[i].value) || 0)));
    const others = this.weights.filter((_, j) => j !== i);
    const rest = apportion(others, 100 - share);
    this.weights = this.weights.map((_, j) => (j === i ? share : rest.shift()));
  }

  /** Move the border after part `i` to `position`, 0 to 100. Only its two neighbours change. */
  move(i, position) {
    const w = this.weights;
    const before = w.slice(0, i).reduce((a, b) => a + b, 0);
    const pair = w[i] + w[i + 1];
    w[i] = Math.min(pair, Math.max(0, Math.round(position - before)));
    w[i + 1] = pair - w[i];
    this.weights = w;
  }

  handle(i) {
    const el = Object.assign(document.createElement("div"), { className: "handle", tabIndex: 0 });
    el.setAttribute("role", "slider");
    el.setAttribute("aria-label", `Share of ${this.inputs[i].dataset.name}`);
    const at = (event) => ((event.clientX - this.bar.getBoundingClientRect().left) / this.bar.clientWidth) * 100;
    el.addEventListener("pointerdown", (e) => { el.setPointerCapture(e.pointerId); this.classList.add("dragging"); });
    el.addEventListener("pointermove", (e) => { if (el.hasPointerCapture(e.pointerId)) this.move(i, at(e)); });
    el.addEventListener("pointerup", () => this.classList.remove("dragging"));
    el.addEventListener("keydown", (e) => {
      const here = this.weights.slice(0, i + 1).reduce((a, b) => a + b, 0);
      const to = { ArrowLeft: here - 1, ArrowDown: here - 1, ArrowRight: here + 1, ArrowUp: here + 1, PageDown: here - 10, PageUp: here + 10, Home: 0, End: 100 }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      this.move(i, to);
    });
    this.bar.append(el);
    return el;
  }

  draw() {
    const w = this.weights;
    let edge = 0;
    w.forEach((v, i) => {
      this.segs[i].style.width = `${v}%`;
      const roomy = (v / 100) * this.bar.clientWidth > 58;
      this.segs[i].style.paddingInline = roomy ? "" : "0";
      this.segs[i].textContent = roomy ? `${v} %` : "";
      edge += v;
      const handle = this.handles[i];
      if (!handle) return;
      handle.style.left = `${edge}%`;
      handle.setAttribute("aria-valuemin", 0);
      handle.setAttribute("aria-valuemax", w[i] + w[i + 1]);
      handle.setAttribute("aria-valuenow", v);
      handle.setAttribute("aria-valuetext", this.inputs.map((x, j) => `${x.dataset.name} ${w[j]} percent`).join(", "));
    });
    const changed = w.some((v, i) => v !== this.now[i]);
    this.closest("#traffic")?.toggleAttribute("data-edited", changed || Boolean(this.reason?.value));
    this.sum.textContent = `${w.join(" + ")} = ${w.reduce((a, b) => a + b, 0)} %`;
    if (this.apply) {
      this.apply.disabled = !changed;
      this.apply.textContent = changed ? `Apply ${this.lead.dataset.name.split(" ")[0]} ${this.now[this.inputs.indexOf(this.lead)]} → ${this.lead.value} %` : "Apply split";
    }
    for (const chip of $$("[data-preset]")) {
      const [slot, share] = chip.dataset.preset.split(":");
      const now = this.inputs.some((x) => x.name === `weight_${slot}` && x.value === share);
      chip.classList.toggle("now", now);
      chip.setAttribute("aria-pressed", now);
    }
  }
}
customElements.define("traffic-split", TrafficSplit);
