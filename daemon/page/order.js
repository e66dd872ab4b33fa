// Who came first: the bounds of the last messages as bars. Whether an order is proven follows from them alone.

import { byId, colour, picture, row, svg, table } from "./draw.js";
import { ns, short, span } from "./time.js";
import { mark, view } from "./view.js";
import { now } from "./node.js";

const SHOWN = 16, LINE = 19, LEFT = 132;
/** Width of a time that is left out, and how many times as long as a bar one that is not may be. */
const BREAK = 10, GAP_MAX = 2;

/** For each message whether it surely was stamped after all before it; null for the first. */
export function proven(records) {
  let latest = null, known = true;
  return records.map((record, at) => {
    const [from, to] = [ns(record.earliest), ns(record.latest)];
    const certain = at === 0 ? null : known && from !== null && from > latest;
    if (to === null) known = false;
    else if (latest === null || to > latest) latest = to;
    return certain;
  });
}

/** Draws the last of these messages, which are in the order of the log. */
export function draw(all) {
  const certain = proven(all), pairs = certain.slice(1);
  const share = pairs.filter(Boolean).length;
  byId("proven").textContent = pairs.length === 0 ? "no two messages yet"
    : `${Math.floor(100 * share / pairs.length)} % proven: ${share} of ${pairs.length} neighbours`;
  const records = all.slice(-SHOWN), sure = certain.slice(-SHOWN);
  rows(records, sure);
  const known = records.filter((record) => record.earliest !== null);
  const height = Math.max(60, records.length * LINE + 24);
  const [it, width] = picture("order-chart", height, byId("proven").textContent);
  if (known.length === 0) {
    const why = records.length ? "All that is here was stamped without bounds: no order can be proven." : "No message in this time.";
    it.append(svg("text", { x: 8, y: 30, class: "label" }, why));
    return;
  }
  const right = width - 30, pieces = together(known, right - LEFT);
  const [low, high] = [pieces[0].from, pieces.at(-1).to];
  const x = (at) => {
    const on = pieces.findLast((one) => one.from <= at) ?? pieces[0];
    return LEFT + Math.min(on.left + Number(at - on.from) * on.scale, on.right);
  };
  records.forEach((record, at) => bar(it, record, at, sure[at], x, [LEFT, right]));
  brackets(it, sure, right + 6);
  for (const one of pieces.slice(1)) {
    const at = LEFT + one.left - BREAK / 2;
    it.append(svg("line", { x1: at, x2: at, y1: 0, y2: records.length * LINE, class: "unknown" }, svg("title", {}, `${span(one.gap)} without a message`)));
  }
  const base = records.length * LINE + 14;
  it.append(svg("line", { x1: LEFT, x2: right, y1: base - 10, y2: base - 10, class: "grid" }));
  it.append(svg("text", { x: LEFT, y: base + 4, class: "tick" }, short(record_time(low), now())));
  it.append(svg("text", { x: right, y: base + 4, class: "tick", "text-anchor": "end" }, `+${span(Number(high - low) / 1e6)}`));
  it.addEventListener("click", (event) => {
    const box = it.getBoundingClientRect(), at = (event.clientX - box.left) * width / box.width - LEFT;
    const on = pieces.find((one) => at >= one.left && at <= one.right);
    if (on) mark((Number(on.from / 1000n) + (at - on.left) / on.scale / 1000) / 1000);
  });
  if (view.at !== null) {
    const at = BigInt(Math.round(view.at * 1000)) * 1000n;
    if (at >= low && at <= high) it.append(svg("line", { x1: x(at), x2: x(at), y1: 0, y2: base - 10, class: "mark" }));
  }
}

/** Pieces of time in which there are bars, from left to right; long times without any are left out between. */
function together(known, width) {
  const pieces = [];
  for (const it of [...known].sort((a, b) => (ns(a.earliest) < ns(b.earliest) ? -1 : 1))) {
    const [from, to] = [ns(it.earliest), ns(it.latest)], before = pieces.at(-1);
    const gap = before ? Number(from - before.to) : null;
    if (before && gap <= Number(to - from) * GAP_MAX) before.to = to > before.to ? to : before.to;
    else pieces.push({ from, to, gap: before ? gap / 1e6 : null });
  }
  const whole = pieces.reduce((sum, one) => sum + Number(one.to - one.from), 0) || 1;
  const scale = Math.max(1, width - BREAK * (pieces.length - 1)) / whole;
  let left = 0;
  for (const one of pieces) {
    Object.assign(one, { left, right: left + Number(one.to - one.from) * scale, scale });
    left = one.right + BREAK;
  }
  return pieces;
}

const record_time = (at) => new Date(Number(at / 1_000_000n)).toISOString().replace("Z", "") + String(at % 1_000_000n).padStart(6, "0") + "Z";

function bar(it, record, at, certain, x, [left, right]) {
  const y = at * LINE + LINE / 2, from = ns(record.earliest), to = ns(record.latest);
  it.append(svg("text", { x: 2, y: y + 4, class: "label" }, `${record.seq} ${record.from}`.slice(0, 18)));
  if (from === null) {
    it.append(svg("line", { x1: left, x2: right, y1: y, y2: y, class: "unknown" }));
    return;
  }
  const wide = Math.max(3, x(to) - x(from));
  const title = svg("title", {}, `${record.seq}: ${record.earliest} to ${record.latest}${certain === false ? "; its order is not provable" : ""}`);
  it.append(svg("rect", { x: x(from), y: y - 5, width: wide, height: 10, rx: 2, class: `bar f${colour(record.gateway)}` }, title));
  const stamp = x(ns(record.stamp));
  it.append(svg("line", { x1: stamp, x2: stamp, y1: y - 7, y2: y + 7, class: "stamp" }));
}

/** Messages whose order nobody can prove are bracketed together. */
function brackets(it, sure, x) {
  let begin = null;
  for (let at = 1; at <= sure.length; at++) {
    if (sure[at] === false) { begin ??= at - 1; continue; }
    if (begin === null) continue;
    const [top, low] = [begin * LINE + 6, (at - 1) * LINE + LINE - 6];
    it.append(svg("path", { d: `M${x} ${top}h5V${low}h-5`, class: "bracket" }));
    it.append(svg("text", { x: x + 9, y: (top + low) / 2 + 6, class: "tilde" }, "~"));
    begin = null;
  }
}

function rows(records, sure) {
  const shown = records.map((record, at) => row([
    record.seq, sure[at] === null ? "" : sure[at] ? "proven" : "~", record.earliest ?? "unknown", record.latest ?? "unknown", record.from, record.gateway,
  ], record.seq));
  table("order-table", "The bars as numbers", ["Seq", "Order", "Earliest", "Latest", "From", "Taken by"], shown);
}
