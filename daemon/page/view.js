// The one time axis: which time all panels show, and the instant that is marked in all of them.

import { now } from "./node.js";
import { duration, ms, utc } from "./time.js";

const SPANS = ["1m", "10m", "1h", "1d"];

/** `span`: the last so many milliseconds, or else from `since` to `until`, with the texts as they were given. */
export const view = { span: 6e5, since: null, until: null, texts: null, mode: "nominal", at: null };
const changes = [], marks = [];
/** Calls back when another time is shown. */
export const onRange = (listener) => changes.push(listener);
/** Calls back when an instant is marked. */
export const onMark = (listener) => marks.push(listener);

export const isLive = () => view.span !== null;
/** Beginning and end, in milliseconds. */
export function range() {
  const end = isLive() ? now() : (view.until ?? now());
  return [isLive() ? end - view.span : view.since, end];
}

/** Marks an instant in all panels. */
export function mark(at) {
  view.at = at;
  remember();
  for (const listener of marks) listener();
}

/** Shows the last so many milliseconds, as they go on. */
export function live(span) {
  Object.assign(view, { span, since: null, until: null, texts: null });
  changed();
}

/** Shows a time with both ends, milliseconds; `texts` are the exact ones. */
export function between(since, until, texts) {
  Object.assign(view, { span: null, since, until, texts: texts ?? [utc(since), utc(until)] });
  changed();
}

function changed() {
  remember();
  show();
  for (const listener of changes) listener();
}

// A link to this page keeps what it shows, at another node, too.
function remember() {
  const parts = isLive() ? { last: view.span / 1000 } : { since: view.texts[0], until: view.texts[1] ?? "" };
  if (view.mode !== "nominal") parts.mode = view.mode;
  if (view.at !== null) parts.at = utc(view.at);
  history.replaceState(null, "", "#" + new URLSearchParams(parts));
}

const input = (id) => document.getElementById(id);

function show() {
  for (const button of input("spans").children) {
    button.setAttribute("aria-pressed", String(isLive() && duration(button.value) === view.span));
  }
  [input("since").value, input("until").value] = view.texts ?? ["", ""];
  input("mode").value = view.mode;
}

function read() {
  view.mode = input("mode").value;
  const [since, until] = [input("since").value.trim(), input("until").value.trim()];
  const back = duration(since);
  if (!since || (back && !until)) return live(back || view.span || 6e5);
  const from = back ? now() - back : ms(since), to = until ? ms(until) : now();
  const wrong = from === null ? "since" : to === null || to <= from ? "until" : null;
  if (wrong) {
    input(wrong).setCustomValidity("a time as 2026-01-31T12:00:00.000000001Z, or 10m; the end comes later");
    return input(wrong).reportValidity();
  }
  between(from, to, [back ? utc(from) : since, until || utc(to)]);
}

/** Puts the controls to work, and takes what the address says. */
export function start() {
  for (const text of SPANS) {
    const button = Object.assign(document.createElement("button"), { type: "button", value: text });
    button.textContent = { m: "min", h: "h", d: "d" }[text.at(-1)] ? `${parseInt(text)} ${{ m: "min", h: "h", d: "d" }[text.at(-1)]}` : text;
    button.onclick = () => live(duration(text));
    input("spans").append(button);
  }
  for (const id of ["since", "until"]) input(id).oninput = () => input(id).setCustomValidity("");
  input("range").onsubmit = (event) => { event.preventDefault(); read(); };
  input("mode").onchange = read;
  const given = new URLSearchParams(location.hash.slice(1));
  const since = ms(given.get("since")), until = ms(given.get("until"));
  if (["possible", "definite"].includes(given.get("mode"))) view.mode = given.get("mode");
  view.at = ms(given.get("at"));
  if (since !== null && until !== null && since < until) {
    Object.assign(view, { span: null, since, until, texts: [given.get("since"), given.get("until")] });
  } else if (Number(given.get("last")) > 0) {
    view.span = Number(given.get("last")) * 1000;
  }
  show();
}
