// Times. Exact ones are nanoseconds as BigInt; those that are only drawn are milliseconds as numbers.

const STAMP = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z?/;

/** Nanoseconds since 1970 of a time or a stamp; null if it is none. */
export function ns(text) {
  const found = STAMP.exec(text ?? "");
  if (!found) return null;
  const seconds = Date.parse(found[1] + "Z");
  if (Number.isNaN(seconds)) return null;
  return BigInt(seconds) * 1_000_000n + BigInt((found[2] ?? "").padEnd(9, "0"));
}

/** The same in milliseconds. */
export function ms(text) {
  const at = ns(text);
  return at === null ? null : Number(at / 1000n) / 1000;
}

/** A time that the server reads, from milliseconds. */
export const utc = (at) => new Date(Math.round(at)).toISOString();

/** Time of day, with its milliseconds if wanted. */
export const day = (at, digits = 3) =>
  utc(at).slice(11, digits > 0 ? 20 + digits : 19);

/** A stamp as people read it: the date only where it is not today's. */
export function short(stamp, now) {
  const [date, time] = [stamp.slice(0, 10), stamp.slice(11, 26)];
  return date === utc(now).slice(0, 10) ? time : `${date} ${time}`;
}

/** Milliseconds of something like 10m; null if it is nothing like it. */
export function duration(text) {
  const found = /^(\d+)(s|m|h|d)$/.exec(text.trim());
  return found && Number(found[1]) * { s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7 }[found[2]];
}

/** How long something takes, in two or three digits. */
export function span(milli) {
  if (milli < 1) return `${Math.round(milli * 1000)} µs`;
  if (milli < 1000) return `${Number(milli.toPrecision(3))} ms`;
  const s = milli / 1000;
  if (s < 120) return `${Math.round(s)} s`;
  return s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
}

/** An error bound, as logctl shows it. */
export const bound = (us) =>
  us === null || us === undefined ? "unknown" : `±${Math.floor(us / 1000)}.${String(us % 1000).padStart(3, "0")} ms`;
