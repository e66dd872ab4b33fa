// The clock band: for each node the interval that holds true time, around what all good clocks allow together.

import { byId, css, el, line, paint, plot, row, settle, swatch, table } from "./draw.js";
import { ask, clockReads, node } from "./node.js";
import { bound, ms, ns, span } from "./time.js";
import { isLive, range } from "./view.js";

const SAMPLES_MAX = 3600;
const GOOD = ["synced", "holdover", "local"];

/** One a second: `{at, limit, nodes: {name: {lo, hi, mid, state}}}`, milliseconds from the middle. */
const samples = [];
/** Rows of the log's own history, for what was before this page was opened. */
let report = [];
let last = null;

const milli = (a, b) => Number(ns(a) - ns(b)) / 1e6;

/** What one node tells of all clocks, from the middle of what the good ones allow. */
function sample(clock) {
  const nodes = {};
  const own = clock.earliest ? [milli(clock.earliest, clock.now), milli(clock.latest, clock.now)] : [null, null];
  nodes[clock.node] = { lo: own[0], hi: own[1], mid: 0, state: clock.state, bound: clock.error_bound_us };
  for (const peer of clock.peers) {
    const mid = peer.offset_ns / 1e6, error = peer.error_bound_us;
    // What the exchange with it leaves open is added: only so the interval is a true one from here.
    const wide = error === null ? null : error / 1e3 + peer.delay_ns / 2e6;
    nodes[peer.peer] = { lo: wide === null ? null : mid - wide, hi: wide === null ? null : mid + wide, mid, state: peer.state, bound: error, verdict: peer.verdict, delay: peer.delay_ns };
  }
  const good = Object.values(nodes).filter((it) => it.lo !== null && GOOD.includes(it.state));
  const lo = Math.max(...good.map((it) => it.lo)), hi = Math.min(...good.map((it) => it.hi));
  const middle = good.length && lo <= hi ? (lo + hi) / 2 : 0;
  for (const it of Object.values(nodes)) {
    for (const key of ["lo", "hi", "mid"]) if (it[key] !== null) it[key] -= middle;
  }
  return { at: ms(clock.now), limit: clock.max_error_us / 1e3, nodes };
}

/** Asks for the clocks, once a second. */
export async function tick() {
  const clock = await ask("/v1/clock");
  clockReads(ms(clock.now));
  last = sample(clock);
  settle(Object.keys(last.nodes));
  samples.push(last);
  if (samples.length > SAMPLES_MAX) samples.shift();
  numbers(clock);
}

/** Asks for what the log has of the time that is shown. */
export async function history() {
  const [from, to] = range();
  const since = new Date(Math.floor(from)).toISOString();
  const until = isLive() ? "" : `&until=${new Date(Math.ceil(to)).toISOString()}`;
  report = await ask(`/v1/clock/report?tolerance=${last?.limit ?? 100}ms&since=${since}${until}`);
}

/** All that is drawn: times, and for each node lower and upper end at each. */
function drawn() {
  const [from, to] = range(), names = new Set(last ? Object.keys(last.nodes) : []);
  const first = samples.length ? samples[0].at : Infinity, points = new Map();
  const put = (at, name, lo, hi) => {
    if (!points.has(at)) points.set(at, {});
    points.get(at)[name] = [lo, hi];
  };
  for (const it of report) {
    const [begin, end] = [ms(it.from), Math.min(ms(it.to), first)];
    if (begin >= end || end < from || begin > to) continue;
    names.add(it.node);
    const wide = it.worst_error_us === null ? null : it.worst_error_us / 1e3;
    put(begin, it.node, wide === null ? null : -wide, wide);
    put(end - 0.001, it.node, wide === null ? null : -wide, wide);
  }
  for (const it of samples) {
    if (it.at < from - 2000 || it.at > to) continue;
    for (const [name, one] of Object.entries(it.nodes)) put(it.at, name, one.lo ?? one.mid, one.hi ?? one.mid);
  }
  const at = [...points.keys()].sort((a, b) => a - b), list = [...names].sort();
  const series = list.flatMap((name) => [0, 1].map((end) => at.map((t) => points.get(t)[name]?.[end])));
  return [list, [at.map((t) => t / 1000), ...series]];
}

/** Draws it. */
export function draw() {
  const [names, data] = drawn(), limit = last?.limit ?? null;
  settle(names);
  const all = data.slice(1).flat().filter((y) => typeof y === "number");
  const most = all.reduce((most, y) => Math.max(most, Math.abs(y)), 0.05) * 1.15;
  const series = names.flatMap((name) => [0, 1].map(() => ({ stroke: paint(name), width: 1.5, points: { show: false } })));
  const options = () => ({
    height: 230, unit: "ms", series: [{}, ...series],
    range: () => [-scale, scale],
    bands: names.map((name, at) => ({ series: [2 * at + 2, 2 * at + 1], fill: paint(name) + "2e" })),
    under: (u) => {
      const across = (y, colour) => {
        if (Math.abs(y) > scale) return;
        const at = u.valToPos(y, "y", true);
        line(u, u.bbox.left, at, u.bbox.left + u.bbox.width, at, colour);
      };
      across(0, css("--muted"));
      if (limit !== null) { across(limit, css("--bad")); across(-limit, css("--bad")); }
    },
  });
  scale = most;
  plot("clock-chart", names.join(), options, data);
  const key = names.map((name) => el("span", {}, swatch(name), name));
  const known = last && Object.values(last.nodes).some((it) => it.lo !== null);
  byId("clock-key").replaceChildren(...key, el("span", { class: "muted" }, limit === null ? "" : `limit ±${limit} ms`,
    known || !last ? "" : "; no bounds are known: these clocks ask no time servers"));
}
let scale = 1;

function numbers(clock) {
  const of = (it, key) => (it[key] === null ? "unknown" : `${it[key] >= 0 ? "+" : ""}${it[key].toFixed(3)} ms`);
  const tone = (state) => (["synced", "local"].includes(state) ? "good" : ["holdover", "disagree"].includes(state) ? "warn" : "bad");
  const rows = Object.entries(last.nodes).sort(([a], [b]) => a.localeCompare(b)).map(([name, it]) => row([
    name, [it.state, tone(it.state)], bound(it.bound), of(it, "lo"), of(it, "hi"),
    it.verdict ?? "this node", it.delay === undefined ? "-" : span(it.delay / 1e6),
  ], name));
  table("clock-table", `Clocks as ${node.name} sees them`, ["Node", "State", "Error bound", "Earliest", "Latest", "Compared", "Round trip"], rows);
  const servers = clock.sources.map((it) => row([
    it.address, [it.verdict, it.verdict === "selected" ? "good" : it.verdict === "falseticker" ? "bad" : null],
    it.stratum, it.reach, `${(it.offset_ns / 1e6).toFixed(3)} ms`, `±${(it.distance_ns / 1e6).toFixed(3)} ms`, it.age_ms === null ? "-" : span(it.age_ms),
  ], it.address));
  table("servers-table", `Time servers of ${node.name}`, ["Server", "Verdict", "Stratum", "Reach", "Offset", "Distance", "Heard"],
    servers.length ? servers : [row([clock.reason, "", "", "", "", "", ""])]);
}
