// Messages: what comes, or what was in a time; and how many over time.

import { byId, picture, row, svg, table, timeAxis } from "./draw.js";
import { ask, follow, now } from "./node.js";
import { ms, short } from "./time.js";
import { isLive, range, view } from "./view.js";
import { proven } from "./order.js";

const HELD_MAX = 500, ROWS = 100, BINS = 60;
/** Later than any stamp: whoever asks from here on is told where the log ends. */
const NEVER = "2554-07-21T00:00:00Z";

/** What is held, in the order of the log. `whole`: whether all of the time that is shown is here. */
export const held = { records: [], whole: true, next: null, gap: null };
let end = null, listener = () => {}, turn = 0;
/** Calls back when there are others. */
export const onMessages = (back) => { listener = back; };

const seq = (place) => Number(place?.split("-")[1] ?? 0);

function take(records) {
  held.records.push(...records);
  if (isLive() && held.records.length > HELD_MAX) {
    held.records.splice(0, held.records.length - HELD_MAX);
    held.whole = false;
  }
}

/** Loads what the time that is shown has, and follows it where it goes on. */
export async function load() {
  const mine = ++turn;
  end?.();
  end = null;
  if (isLive()) {
    const [from] = range();
    const last = (await ask(`/v1/messages?since=${NEVER}&limit=1`)).next;
    const start = Math.max(0, seq(last) - HELD_MAX);
    const page = await ask(`/v1/messages?after=1-${start}&limit=${HELD_MAX}&since=${new Date(from).toISOString()}`);
    if (mine !== turn) return;
    Object.assign(held, { records: page.records, whole: start === 0 || page.records.length === 0 || ms(page.records[0].stamp) < from, next: null, gap: page.gap });
    end = follow("/v1/messages", page.next ?? last, (kind, told) => {
      if (kind === "record") { take([told]); listener(); }
      if (kind === "gap") held.gap = told.gap ?? told;
    });
  } else {
    const page = await ask(`/v1/messages?limit=${HELD_MAX}&${asked()}`);
    if (mine !== turn) return;
    Object.assign(held, { records: page.records, whole: page.end, next: page.end ? null : page.next, gap: page.gap });
  }
  listener();
}

const asked = () => new URLSearchParams({ since: view.texts[0], until: view.texts[1], mode: view.mode });

/** The next ones of a time with an end. */
export async function more() {
  const page = await ask(`/v1/messages?limit=${HELD_MAX}&${asked()}&after=${held.next}`);
  take(page.records);
  Object.assign(held, { whole: page.end, next: page.end ? null : page.next });
  listener();
}

/** Those of the time that is shown: what is followed runs out of it at its begin. */
export function shown() {
  if (!isLive()) return held.records;
  const [from] = range();
  return held.records.filter((record) => ms(record.stamp) >= from);
}

function body(record) {
  if (record.deleted) return [`deleted by ${record.deleted.by}${record.deleted.reason ? `: ${record.deleted.reason}` : ""}`, "muted"];
  if (record.body_b64 !== undefined) return [`${Math.floor(record.body_b64.length * 3 / 4)} bytes, not text`, "muted"];
  return [record.body, "body"];
}

/** Draws them. */
export function draw() {
  const records = shown(), sure = proven(records);
  volume(records);
  const rows = records.map((record, at) => row([
    record.seq, [(sure[at] === false ? "~" : "") + short(record.stamp, now()), "time"], record.from, record.to, body(record), record.gateway, record.id,
  ], record.seq));
  const order = isLive() ? rows.slice(-ROWS).reverse() : rows;
  table("messages-table", "Messages", ["Seq", "Stamp", "From", "To", "Body", "Taken by", "Id"], order);
  const gap = held.gap ? ` What was before ${held.gap.to_seq} was removed by retention.` : "";
  const part = held.whole ? "" : isLive() ? ` Only the last ${records.length} are held here.` : " There are more.";
  byId("messages-note").textContent = `${records.length} message${records.length === 1 ? "" : "s"} in this time${isLive() ? ", the newest first" : ""}.${part}${gap}`;
  byId("more").hidden = held.next === null;
}

function volume(records) {
  const height = 84, [from, to] = range(), counts = new Array(BINS).fill(0);
  for (const record of records) {
    const bin = Math.floor((ms(record.stamp) - from) / (to - from) * BINS);
    if (bin >= 0 && bin < BINS) counts[bin]++;
  }
  const most = Math.max(1, ...counts);
  const [it, width] = picture("volume", height, `${records.length} messages; ${most} at most in a sixtieth of the time`);
  const left = 46, right = width - 8, x = timeAxis(it, left, right, height, [from, to]);
  it.append(svg("text", { x: left - 6, y: 12, class: "tick", "text-anchor": "end" }, String(most)));
  if (!held.whole && records.length && isLive()) {
    const edge = x(ms(records[0].stamp));
    it.append(svg("rect", { x: left, y: 0, width: Math.max(0, edge - left), height: height - 18, class: "unseen" }, svg("title", {}, "more than is held here")));
  }
  counts.forEach((count, bin) => {
    if (count === 0) return;
    const tall = Math.max(2, (height - 22) * count / most), wide = (right - left) / BINS;
    it.append(svg("rect", { x: left + bin * wide + 0.5, y: height - 18 - tall, width: Math.max(1, wide - 1), height: tall, class: "volume" }, svg("title", {}, String(count))));
  });
}
