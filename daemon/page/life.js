// Life of the cluster: a lane for each node, from the events of the log and from what it says now.

import { byId, el, picture, row, settle, svg, table, timeAxis } from "./draw.js";
import { ms, short } from "./time.js";
import { range } from "./view.js";
import { now } from "./node.js";

const LANE = 26, LEFT = 46;
const STATES = ["primary", "backup", "learner", "draining", "suspect", "gone"];
/** Events that say nothing of a lane are marks on it. */
const MARKS = { leader: "election", clock: "clock", admin: "administrators", alarm: "alarm", settings: "settings", refused: "refused", repair: "repair", ceiling: "clock", member: "members" };

/** What happened to a node's lane: the state from there on; null if it is not about that. */
function turn(event, name) {
  if (event.type === "leader") return event.node === name ? "primary" : "backup";
  if (event.node !== name) return null;
  if (event.type === "leave") return "gone";
  if (event.type === "join") return "backup";
  if (event.type === "suspect") return event.headers.state === "joined" || /again/.test(event.text) ? "backup" : "suspect";
  return null;
}

/** What a node is by the list of nodes. */
export function current(it) {
  if (!it.up) return it.state === "suspect" ? "suspect" : "gone";
  if (it.state === "suspect") return "suspect";
  if (it.drained) return "draining";
  return it.role === "primary" ? "primary" : it.voter ? "backup" : "learner";
}

/** Pieces of a lane: `[from, to, state]`; what was before the first event is not guessed but left open. */
function lane(name, events, is, [from, to]) {
  const pieces = [];
  let [begin, state] = [from, null];
  for (const event of events) {
    const next = turn(event, name), at = ms(event.stamp);
    // Another primary says nothing of a node that is gone.
    if (next === null || (event.type === "leader" && next === "backup" && state !== "primary" && state !== null)) continue;
    if (at > begin) pieces.push([begin, Math.min(at, to), state]);
    [begin, state] = [Math.max(at, from), next];
    if (at > to) return pieces;
  }
  const live = to >= now() - 1000;
  if (is && live && state !== is) {
    // Since when, no event has said: shown from the last one on, as what it is now.
    state = is;
  }
  pieces.push([begin, to, state]);
  return pieces.filter(([a, b]) => b > a);
}

/** Draws the lanes; `nodes` as the list of nodes says them. */
export function draw(nodes, events) {
  const shown = range(), names = nodes.map((it) => it.name);
  settle(names);
  const height = names.length * LANE + 34;
  const [it, width] = picture("life-chart", height, `Lanes of ${names.join(", ")}`);
  const right = width - 8, x = timeAxis(it, LEFT, right, height, shown);
  nodes.forEach((one, at) => {
    const y = at * LANE + 4;
    it.append(svg("text", { x: 2, y: y + 14, class: "label" }, one.name.slice(0, 6)));
    for (const [from, to, state] of lane(one.name, events, current(one), shown)) {
      const title = svg("title", {}, `${one.name}: ${state ?? "not known"}`);
      it.append(svg("rect", { x: x(from), y, width: Math.max(1, x(to) - x(from)), height: LANE - 8, class: `lane ${state ?? "open"}` }, title));
    }
  });
  for (const event of events) {
    const at = ms(event.stamp), lane = names.indexOf(event.node);
    if (!MARKS[event.type] || at < shown[0] || at > shown[1] || routine(event)) continue;
    const y = lane < 0 ? names.length * LANE + 2 : lane * LANE + 13;
    const title = svg("title", {}, `${event.stamp}: ${event.text}`);
    it.append(svg("circle", { cx: x(at), cy: y, r: 4.5, class: `event ${event.type}` }, title));
  }
  byId("life-key").replaceChildren(...STATES.map((state) => el("span", {}, el("span", { class: `swatch ${state}` }), state)),
    el("span", {}, el("span", { class: "swatch dot" }), "event"));
  rows(events.filter((event) => ms(event.stamp) >= shown[0] && ms(event.stamp) <= shown[1] && !routine(event)), nodes);
}

/** An entry that a clock writes each minute, whatever happens. */
const routine = (event) => event.type === "clock" && event.headers.cause === "history";

function rows(events, nodes) {
  const now_rows = nodes.map((it) => row([it.name, "now", current(it), it.reason ?? ""], `now-${it.name}`));
  const past = events.slice(-60).reverse().map((event) => row([event.node ?? "-", short(event.stamp, now()), event.type, event.text], event.seq));
  table("life-table", "Nodes now, and what happened", ["Node", "When", "What", "Told"], [...now_rows, ...past]);
}
