// Replication: how far each node is, how long the ways are, what a message waits for, and who takes messages.

import { byId, el, paint, plot, row, settle, swatch, table } from "./draw.js";
import { span } from "./time.js";
import { range } from "./view.js";
import { now } from "./node.js";

const SAMPLES_MAX = 3600;
const samples = [];
let round_trips = {};

/** Takes the list of nodes, once in a while. */
export function take(nodes) {
  settle(nodes.map((it) => it.name));
  samples.push({ at: now(), nodes });
  if (samples.length > SAMPLES_MAX) samples.shift();
}

/** One family of a text for Prometheus: `[labels, value]`. */
function family(text, name) {
  const found = [];
  for (const line of text.split("\n")) {
    const parts = /^(\w+)\{(.*)\} (\S+)$/.exec(line);
    if (parts?.[1] !== name) continue;
    const labels = Object.fromEntries([...parts[2].matchAll(/(\w+)="([^"]*)"/g)].map((it) => [it[1], it[2]]));
    found.push([labels, Number(parts[3])]);
  }
  return found;
}

/** Takes what the node tells Prometheus. */
export function metrics(text) {
  round_trips = Object.fromEntries(family(text, "logd_peer_rtt_seconds").map(([labels, s]) => [labels.peer, s * 1000]));
  const of = (suffix) => family(text, `logd_append_duration_seconds_${suffix}`);
  const buckets = of("bucket"), sums = of("sum");
  const rows = of("count").map(([{ stage }, count]) => {
    const own = buckets.filter(([labels]) => labels.stage === stage);
    const within = (share) => {
      const found = own.find(([, n]) => n >= count * share);
      if (!found || count === 0) return "-";
      return found[0].le === "+Inf" ? "more" : `≤ ${span(Number(found[0].le) * 1000)}`;
    };
    const sum = sums.find(([labels]) => labels.stage === stage)?.[1] ?? 0;
    return row([stage, count, count ? span(sum / count * 1000) : "-", within(0.5), within(0.99)], stage);
  });
  table("stages-table", "Since this node started", ["Stage", "Count", "Mean", "Half", "99 %"], rows);
}

/** Draws it; `records`: messages of the time that is shown. */
export function draw(nodes, records) {
  const names = nodes.map((it) => it.name), [from, to] = range();
  const seen = samples.filter((it) => it.at >= from - 3000 && it.at <= to);
  const lag = (name) => seen.map((it) => it.nodes.find((one) => one.name === name && one.up)?.lag ?? null);
  const data = [seen.map((it) => it.at / 1000), ...names.map(lag)];
  const most = data.slice(1).flat().reduce((most, y) => Math.max(most, y ?? 0), 0);
  top_lag = Math.max(4, most * 1.1);
  plot("lag-chart", names.join(), () => ({
    height: 150, unit: "entries behind", range: () => [0, top_lag],
    series: [{}, ...names.map((name) => ({ stroke: paint(name), width: 1.5, points: { show: false } }))],
  }), data);
  table("replication-table", "Nodes", ["Node", "Role", "State", "Applied", "Lag", "Round trip", "Release"], nodes.map((it) => row([
    it.name, it.voter ? it.role : `${it.role}, no voter`, [it.state, it.up ? "good" : "bad"], it.applied, it.lag,
    round_trips[it.name] === undefined ? "-" : span(round_trips[it.name]), it.version,
  ], it.name)));
  spread(names, records);
}
let top_lag = 4;

function spread(names, records) {
  const counts = new Map(names.map((name) => [name, 0]));
  for (const record of records) counts.set(record.gateway, (counts.get(record.gateway) ?? 0) + 1);
  const most = Math.max(1, ...counts.values());
  byId("spread").replaceChildren(...[...counts].map(([name, count]) => el("p", { class: "meter" },
    swatch(name), el("span", { class: "name" }, name), el("meter", { min: 0, max: most, value: count, "aria-label": `messages that ${name} took` }), String(count))));
}
