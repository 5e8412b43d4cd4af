// The behaviour of the shell: theme, copy, dialogs, toasts, search, keys and the heartbeat.
// Without it every form still posts and the server answers whole pages; only live updates are lost.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const typing = (element) => element.closest?.("input, textarea, select, [contenteditable]");

function toast(text) {
  const item = document.createElement("div");
  item.className = "toast";
  item.textContent = text;
  $("#toasts").append(item);
  setTimeout(() => item.remove(), 6000);
}
for (const item of $$("#toasts .toast")) setTimeout(() => item.remove(), 8000);

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = dark ? "light" : "dark";
  root.dataset.theme = theme;
  document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=lax`;
  document.dispatchEvent(new Event("theme"));
}

async function copy(button) {
  const text = button.dataset.copy || $(button.dataset.copyFrom)?.textContent || "";
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("The browser refused to copy. Select the text and copy it by hand.");
  }
}

document.addEventListener("click", (event) => {
  const close = event.target.closest("dialog [data-close]");
  if (close) { event.preventDefault(); close.closest("dialog").close(); return; }
  if (event.target.closest("[data-search]")) { event.preventDefault(); openSearch(); return; }
  const button = event.target.closest("button");
  if (!button) return;
  if ("themeToggle" in button.dataset) switchTheme();
  if ("copy" in button.dataset || button.dataset.copyFrom) copy(button);
  if (button.dataset.preset) {
    const [slot, share] = button.dataset.preset.split(":");
    button.form?.querySelector("traffic-split")?.set(slot, Number(share));
  }
});

// A select or a radio with data-submit sends its form at once; without script there is a button.
document.addEventListener("change", (event) => {
  if (event.target.closest("[data-submit]")) event.target.form?.requestSubmit();
});

// A dialog opens when the server has filled it, and closes when its form was answered.
document.addEventListener("htmx:after:swap", (event) => {
  const target = event.detail.ctx.target;
  if (target?.id === "dialog" && target.childElementCount && !target.open) target.showModal();
  if (target?.id === "dialog") $("[autofocus]", target)?.focus();
  if (target?.id === "pulse") noticeMoved();
});
function closeDialog() {
  const dialog = $("#dialog");
  dialog.close();
  dialog.replaceChildren();
}
document.addEventListener("close-dialog", closeDialog);
document.addEventListener("toast", (event) => { closeDialog(); toast(event.detail.text); });

// A live region that cannot be fetched keeps what it shows and says that it is old.
const isBeat = (event) => event.detail.ctx?.sourceEvent?.type === "tick";
document.addEventListener("htmx:response:error", (event) => {
  if (isBeat(event)) { event.detail.ctx.status = "stale"; event.detail.ctx.sourceElement.toggleAttribute("stale", true); }
});
document.addEventListener("htmx:error", (event) => {
  if (isBeat(event)) event.detail.ctx.sourceElement.toggleAttribute("stale", true);
  else if (event.detail.ctx) toast("The server did not answer. Nothing was changed; try again.");
});
document.addEventListener("htmx:after:request", (event) => {
  if (isBeat(event) && event.detail.ctx.response?.status < 400) event.detail.ctx.sourceElement.removeAttribute("stale");
});

// Somebody else changed the traffic: an untouched card is fetched anew, an edited one is kept and says so.
function noticeMoved() {
  const card = $("#traffic");
  const seen = $("#pulse")?.dataset.revision;
  if (!card || !seen || card.dataset.revision === seen) return;
  if (card.dataset.edited === undefined) document.body.dispatchEvent(new Event("traffic-moved"));
  else $("[data-moved]", card)?.removeAttribute("hidden");
}

// One heartbeat drives everything that is live: htmx regions (hx-trigger="tick from:body") and charts.
// A hidden tab has no heartbeat; a tab that comes back gets one at once.
const beat = () => document.hidden || document.body.dispatchEvent(new Event("tick"));
setInterval(beat, 5000);
document.addEventListener("visibilitychange", beat);

function openSearch() {
  const palette = $("#palette");
  if (!palette || palette.open) return;
  palette.showModal();
  $("input", palette).select();
}

// Ctrl-K searches, "r" opens the roll back of the endpoint that is shown; Enter then does it.
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); openSearch(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || $("dialog[open]")) return;
  if (event.key === "/") { event.preventDefault(); openSearch(); }
  const button = $(`[aria-keyshortcuts="${CSS.escape(event.key)}"]`);
  if (button) { event.preventDefault(); button.click(); }
});

// Arrow keys walk through the hits of the search.
document.addEventListener("keydown", (event) => {
  const palette = event.target.closest?.("#palette");
  if (palette && event.key === "Escape") { event.preventDefault(); palette.close(); return; } // the search field would only clear itself
  if (!palette || !["ArrowDown", "ArrowUp"].includes(event.key)) return;
  const stops = [$("input", palette), ...$$(".hits a", palette)];
  const next = stops.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
  event.preventDefault();
  stops.at(next % stops.length)?.focus();
});

/** A file input that also takes what is dropped on it, and shows its name. The form works without it. */
class DropZone extends HTMLElement {
  connectedCallback() {
    const input = $("input[type=file]", this);
    this.addEventListener("dragover", (event) => { event.preventDefault(); this.classList.add("over"); });
    this.addEventListener("dragleave", () => this.classList.remove("over"));
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      this.classList.remove("over");
      if (!event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      input.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }
}
customElements.define("drop-zone", DropZone);
