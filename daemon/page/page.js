// The page: who looks, what is asked and how often, and what is drawn when.

import * as clock from "./clock.js";
import * as life from "./life.js";
import * as messages from "./messages.js";
import * as order from "./order.js";
import * as replication from "./replication.js";
import * as trust from "./trust.js";
import { byId, el, forget, onZoom } from "./draw.js";
import { ask, follow, node, now, onContact, repeat, sign, text } from "./node.js";
import { ms, utc } from "./time.js";
import { between, isLive, onMark, onRange, range, start, view } from "./view.js";

const EVENTS_MAX = 2000;
/** Kinds that lanes and marks are made of. */
const KINDS = "join,leave,suspect,leader,member,alarm,admin,refused,settings,ceiling,repair,lineage,clock";

const seen = { nodes: [], status: null, events: [], at: null };
let loading = 0;

/** What may fail because the node is away: it is tried again once it is there. */
const tried = async (work) => { try { await work(); } catch (error) { if (error.problem) byId("messages-note").textContent = error.message; } };

function draw() {
  if (!seen.status) return;
  clock.draw();
  const records = messages.shown();
  order.draw(records);
  life.draw(seen.nodes, seen.events);
  messages.draw();
  replication.draw(seen.nodes, records);
  trust.draw(seen.nodes, seen.status);
  marked();
}

let drawing = false;
/** Draws soon, and once for all that came meanwhile. */
function soon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
}

function marked() {
  const clear = el("button", { type: "button", class: "small" }, "clear");
  clear.onclick = () => { view.at = null; byId("at").replaceChildren(); soon(); };
  byId("at").replaceChildren(...(view.at === null ? [] : [`marked: ${utc(view.at)} `, clear]));
}

function verdict() {
  const { status } = seen;
  const text = status.healthy ? "healthy" : `${status.problems.length} to look at`;
  const cluster = status.primary ? `, primary ${status.primary}` : ", no primary";
  byId("verdict").textContent = text + cluster;
  byId("verdict").className = status.healthy ? "good" : status.quorum ? "warn" : "bad";
}

async function cluster() {
  const [list, status] = await Promise.all([ask("/v1/nodes"), ask("/v1/status")]);
  [seen.nodes, seen.status, seen.at] = [list.nodes, status, now()];
  node.others = list.nodes.filter((it) => it.name !== node.name && it.up);
  replication.take(list.nodes);
  verdict();
  soon();
}

/** Says how old all that is when the node is away, and where else to look. */
function away() {
  const lost = byId("lost");
  if (node.lost === null) {
    lost.hidden = true;
    byId("contact").textContent = "";
    return;
  }
  const age = Math.round((performance.now() - node.lost) / 1000);
  byId("contact").textContent = "cut off";
  // What it said last may hold no more.
  byId("verdict").className = "warn";
  if (lost.hidden) {
    const links = node.others.map((it) => el("a", { href: `https://${it.address}/${location.hash}` }, it.name));
    lost.replaceChildren(el("strong", {}, `${node.name || "The node"} does not answer.`), " ", el("span", { id: "age" }),
      ...(links.length ? [" Go on at ", ...links.flatMap((link, at) => (at ? [", ", link] : [link])), ", or wait: it is asked each second."] : []));
    lost.hidden = false;
  }
  const is = seen.at === null ? "" : `What you see is of ${utc(seen.at).slice(11, 19)} UTC, ${age} s old.`;
  if (byId("age").textContent !== is) byId("age").textContent = is;
}

let stop_events = null;
async function events() {
  const mine = ++loading, [from, to] = range();
  stop_events?.();
  stop_events = null;
  const found = [];
  const until = isLive() ? "" : `&until=${utc(to)}`;
  for (let after = "", end = false; !end && found.length < EVENTS_MAX;) {
    const page = await ask(`/v1/events?types=${KINDS}&since=${utc(from)}${until}${after}`);
    found.push(...page.records);
    end = page.end || page.next === null;
    after = `&after=${page.next}`;
    if (end && isLive() && mine === loading) {
      stop_events = follow(`/v1/events?types=${KINDS}`, page.next, (kind, event) => {
        if (kind !== "record") return;
        seen.events.push(event);
        if (seen.events.length > EVENTS_MAX) seen.events.shift();
        soon();
      });
    }
  }
  if (mine === loading) { seen.events = found; soon(); }
}

/** Another time is shown: everything of it is asked for. */
async function reload() {
  await Promise.all([tried(messages.load), tried(events), tried(clock.history)]);
  soon();
}

/** Signs in or out, and shows the page anew; says why not. */
async function signed(token) {
  const wrong = await sign(token);
  if (wrong === null) location.reload();
  else byId("refused").textContent = wrong;
}

/** How to come by a file that a browser can import, or sign in with a token. */
function signIn() {
  byId("token-form").onsubmit = (event) => { event.preventDefault(); signed(byId("token").value.trim()); };
  byId("sign-in-command").textContent = [
    "logctl register alice        # or an administrator, whose files are pki/admin.crt and .key",
    'cd "${LOGCTL_HOME:-$HOME/.config/logctl}/keys"',
    "openssl pkcs12 -export -in alice.crt -inkey alice.key -name logd-alice -out alice.p12",
  ].join("\n");
  byId("sign-in").hidden = false;
  // Somebody may sign in beside this window; and a node that has just started may not know yet who looks.
  repeat(3000, async () => { if ((await ask("/page/who")).name !== null) location.reload(); });
  byId("verdict").textContent = "not signed in";
}

async function begin() {
  const who = await ask("/page/who");
  node.name = who.node;
  document.title = `logd ${who.node}`;
  byId("who").textContent = `${who.node}, seen by ${who.name ?? "nobody"}${who.role === "admin" ? " (administrator)" : ""}`;
  if (who.by_token) {
    const out = el("button", { type: "button", class: "small" }, "sign out");
    out.onclick = () => signed(null);
    byId("who").append(" ", out);
  }
  if (who.name === null) { signIn(); return; }
  byId("panels").hidden = false;
  byId("range").hidden = false;
  await tried(clock.tick);
  await tried(cluster);
  await reload();
  repeat(1000, async () => { await clock.tick(); soon(); });
  repeat(2000, cluster);
  repeat(5000, async () => replication.metrics(await text("/metrics")));
}

function run() {
  start();
  byId("range").hidden = true;
  byId("more").onclick = () => tried(messages.more);
  messages.onMessages(soon);
  onMark(soon);
  onRange(reload);
  onZoom((from, to) => between(from, to));
  // What was missed while the node was away is asked for again; what is followed goes on by itself.
  onContact((there) => { away(); if (there) { tried(clock.history); if (!isLive()) reload(); } });
  setInterval(away, 500);
  addEventListener("resize", soon);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { forget(); soon(); });
  const first = async () => { try { await begin(); } catch { setTimeout(first, 1000); } };
  first();
}

run();
