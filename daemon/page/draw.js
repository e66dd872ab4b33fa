// What the panels draw with: elements, tables, lanes in SVG, and charts by uPlot. Text comes in as text, never
// as markup.

import { day } from "./time.js";
import { mark, range, view } from "./view.js";

const SVG = "http://www.w3.org/2000/svg";
export const byId = (id) => document.getElementById(id);

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}
export const el = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);

/** Cells: a text, or `[text, class]`. The first of a row names it. */
export function row(cells, key) {
  return el("tr", { "data-key": key }, ...cells.map((cell, at) => {
    const [text, tone] = Array.isArray(cell) ? cell : [cell];
    return el(at === 0 ? "th" : "td", { class: tone, scope: at === 0 ? "row" : null }, String(text ?? "-"));
  }));
}

/** Fills a table. Rows that stay the same are left alone, so that a reader is not thrown out of them. */
export function table(id, caption, heads, rows) {
  const it = byId(id);
  if (!it.tHead) {
    it.append(el("caption", {}, caption), el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody"));
  }
  const body = it.tBodies[0];
  rows.forEach((made, at) => {
    const old = body.rows[at];
    if (!old) body.append(made);
    else if (!old.isEqualNode(made)) old.replaceWith(made);
  });
  while (body.rows.length > rows.length) body.deleteRow(-1);
}

const names = [];
/** The colour of a node, the same in all panels. */
export function colour(name) {
  if (!names.includes(name)) { names.push(name); }
  return names.indexOf(name) % 6;
}
/** In the order of their names, whoever is met first. */
export const settle = (list) => { for (const name of [...list].sort()) colour(name); };
export const paint = (name) => css(`--n${colour(name)}`);
export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const swatch = (name) => el("span", { class: `swatch c${colour(name)}` });

/** A picture as wide as its place, with a sentence for who cannot see it. */
export function picture(id, height, label) {
  const place = byId(id), width = Math.max(260, place.clientWidth);
  const it = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  place.replaceChildren(it);
  return [it, width];
}

/** The time axis of a picture between two edges; a click marks the instant. Returns where a time lies. */
export function timeAxis(it, left, right, height, [from, to] = range()) {
  const x = (at) => left + (right - left) * (at - from) / (to - from);
  const ticks = Math.max(2, Math.floor((right - left) / 110));
  for (let i = 0; i <= ticks; i++) {
    const at = from + (to - from) * i / ticks;
    const anchor = i === 0 ? "start" : i === ticks ? "end" : "middle";
    it.append(svg("text", { x: x(at), y: height - 4, class: "tick", "text-anchor": anchor }, day(at, to - from < 2e4 ? 3 : 0)));
    it.append(svg("line", { x1: x(at), x2: x(at), y1: 0, y2: height - 18, class: "grid" }));
  }
  if (view.at !== null && view.at >= from && view.at <= to) {
    it.append(svg("line", { x1: x(view.at), x2: x(view.at), y1: 0, y2: height - 16, class: "mark" }));
  }
  it.addEventListener("click", (event) => {
    const scale = it.viewBox.baseVal.width / it.getBoundingClientRect().width;
    const at = (event.clientX - it.getBoundingClientRect().left) * scale;
    if (at >= left && at <= right) mark(from + (to - from) * (at - left) / (right - left));
  });
  return x;
}

const plots = new Map();
/** A chart over the time that is shown; drawn anew where its series are others. `make` gives uPlot's options. */
export function plot(id, key, make, data) {
  const place = byId(id), width = Math.max(260, place.clientWidth);
  let held = plots.get(id);
  if (!held || held.key !== key || held.width !== width) {
    held?.chart.destroy();
    place.replaceChildren();
    const options = make();
    const axis = { stroke: css("--muted"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1 }, font: "12px system-ui, sans-serif" };
    const chart = new uPlot({
      width, height: options.height, legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: false }, sync: { key: "time" }, points: { show: false } },
      scales: { x: { time: true, range: () => range().map((at) => at / 1000) }, y: { range: options.range } },
      axes: [
        { ...axis, space: 90, values: (_, at) => at.map((s) => day(s * 1000, 0)) },
        { ...axis, size: 62, label: options.unit, labelSize: 18, labelFont: "12px system-ui, sans-serif" },
      ],
      series: options.series, bands: options.bands ?? [],
      hooks: {
        draw: [(u) => { options.under?.(u); marked(u); }],
        setSelect: [(u) => zoomed(u)],
        ready: [(u) => u.over.addEventListener("click", (event) => {
          if (u.select.width < 3) mark(u.posToVal(event.offsetX, "x") * 1000);
        })],
      },
    }, data, place);
    held = { key, width, chart };
    plots.set(id, held);
  } else {
    held.chart.setData(data);
  }
  return held.chart;
}

function marked(u) {
  if (view.at === null) return;
  const x = u.valToPos(view.at / 1000, "x", true);
  if (x < u.bbox.left || x > u.bbox.left + u.bbox.width) return;
  line(u, x, u.bbox.top, x, u.bbox.top + u.bbox.height, css("--mark"));
}

/** A line on a chart, in its own pixels. */
export function line(u, x1, y1, x2, y2, stroke) {
  u.ctx.save();
  Object.assign(u.ctx, { strokeStyle: stroke, lineWidth: devicePixelRatio });
  u.ctx.beginPath();
  u.ctx.moveTo(x1, y1);
  u.ctx.lineTo(x2, y2);
  u.ctx.stroke();
  u.ctx.restore();
}

let zoom = () => {};
/** What happens where somebody draws over a piece of a chart. */
export const onZoom = (listener) => { zoom = listener; };
function zoomed(u) {
  if (u.select.width < 3) return;
  const [from, to] = [u.select.left, u.select.left + u.select.width].map((at) => u.posToVal(at, "x") * 1000);
  u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  zoom(from, to);
}

/** Charts take their colours once: others come with another theme. */
export function forget() {
  for (const { chart } of plots.values()) chart.destroy();
  plots.clear();
}
