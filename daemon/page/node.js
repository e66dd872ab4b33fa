// The node that serves this page: what is asked of it, its time, and whether it still answers.

const PATIENCE_MS = 4000;
const AGAIN_MS = 1000;

/** What is known of the node. `read_ms`: its clock, and when it was told, by the counter of this browser. */
export const node = { name: "", lost: null, read_ms: null, told: 0, others: [] };
const listeners = [];

/** Calls back when contact is lost, and when it is there again. */
export const onContact = (listener) => listeners.push(listener);

/** What time it is by the node's clock; this browser's own may be wrong. */
export const now = () =>
  node.read_ms === null ? Date.now() : node.read_ms + (performance.now() - node.told);

/** Takes what the node's clock shows. */
export function clockReads(milli) {
  node.read_ms = milli;
  node.told = performance.now();
}

function contact(there) {
  if (there === (node.lost === null)) return;
  node.lost = there ? null : performance.now();
  for (const listener of listeners) listener(there);
}

async function answer(path) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
  } catch (error) {
    contact(false);
    throw error;
  }
  contact(true);
  // The token is over or revoked: whoever looks signs in again.
  if (response.status === 401) location.reload();
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail ?? `status ${response.status}`), { problem });
  }
  return response;
}

/** Has this browser keep an access token, or, without one, forget it. Says what was wrong, if something was. */
export async function sign(token) {
  const asked = token === null ? { method: "DELETE" } : { method: "POST", headers: { Authorization: `Bearer ${token}` } };
  try {
    const response = await fetch("/page/sign-in", asked);
    return response.ok ? null : ((await response.json()).detail ?? `status ${response.status}`);
  } catch (error) {
    return error.message;
  }
}

/** What a path answers, as JSON or as text. */
export const ask = async (path) => (await answer(path)).json();
export const text = async (path) => (await answer(path)).text();

/** Asks again and again, as long as somebody looks. Whatever fails is tried again. */
export function repeat(every_ms, work) {
  let timer;
  const round = async () => {
    if (!document.hidden) {
      try { await work(); } catch (error) { if (error.problem) console.debug(error.message); }
    }
    timer = setTimeout(round, node.lost === null ? every_ms : AGAIN_MS);
  };
  round();
  return () => clearTimeout(timer);
}

/**
 * Follows a path from a place on, through lost nodes and restarts: without gap and without repeat, for each
 * event says the place behind it. Returns what ends it.
 */
export function follow(path, after, each) {
  let source, timer, ended = false, place = after;
  const begin = () => {
    const mark = path.includes("?") ? "&" : "?";
    source = new EventSource(place ? `${path}${mark}after=${encodeURIComponent(place)}` : path);
    const take = (kind) => (event) => {
      if (event.lastEventId) place = event.lastEventId;
      each(kind, event.data ? JSON.parse(event.data) : null);
    };
    source.onmessage = take("record");
    for (const kind of ["safe", "gap"]) source.addEventListener(kind, take(kind));
    source.addEventListener("moved", (event) => { each("moved", JSON.parse(event.data)); again(); });
    source.addEventListener("problem", again);
    // The browser tries again by itself, but not after an answer that is no stream.
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) again(); };
  };
  const again = () => {
    source.close();
    clearTimeout(timer);
    if (!ended) timer = setTimeout(begin, AGAIN_MS);
  };
  begin();
  return () => { ended = true; clearTimeout(timer); source.close(); };
}
