// Trust: certificates, whose disks were read again, what needs a look, and the commands for it.

import { byId, el, row, table } from "./draw.js";
import { node } from "./node.js";

const COMMANDS = ["logctl verify --state", "logctl certs show", "logctl doctor", "logctl events --since 1h"];

/** Draws it. */
export function draw(nodes, status) {
  const until = (it) => {
    if (!it.certificate) return "-";
    const { not_after, days_left: left } = it.certificate;
    // Whether that is late goes by its whole life: then it is among what needs a look.
    return [`${not_after.slice(0, 10)}, ${left} days`, left === 0 ? "bad" : null];
  };
  const scrub = (it) => (it.scrub ? `${it.scrub.rounds} × whole, ${Math.floor(100 * it.scrub.read_bytes / Math.max(1, it.scrub.of_bytes))} % now` : "-");
  table("trust-table", "Certificates and disks", ["Node", "Address", "Certificate until", "Signs", "Disk read again"], nodes.map((it) => row([
    it.name, it.address, until(it), it.signs ? "yes" : "no", scrub(it),
  ], it.name)));
  const problems = status.problems.length ? status.problems : ["nothing"];
  byId("problems").replaceChildren(...problems.map((text) => el("li", {}, text)));
  const drains = nodes.filter((it) => it.drained).map((it) => `logctl node drain ${it.name} --off`);
  byId("commands").textContent = [...COMMANDS, ...drains, `logctl clock --via ${node.name}`].join("\n");
}
