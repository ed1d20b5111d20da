// ---- what goes on: drains, a rehearsal, the request that failed last

const MAX_DRAINS = 10, FINISHED_REHEARSAL = 3600000;

/** The reports of the servers that take no new users; null where there is none. */
async function pollDrains() {
  const drained = last.clusters.flatMap((c) => c.servers.filter((s) => s.state === "RESTRICTED").map((s) => s.name));
  const reports = [];
  for (const name of [...new Set(drained)].slice(0, MAX_DRAINS)) {
    reports.push(...(await request(`servers/${encodeURIComponent(name)}/drain`)).servers);
  }
  showDrains(reports);
}
function showDrains(reports) {
  last.clusters.forEach((c, n) => {
    const node = $("clusters").children[n].drains;
    const shown = reports.filter((r) => r.cluster === c.name && r.restrictions.length);
    rebuild(node, shown.map((r) => r.server), () => shown.map((r) => drain(r.server)));
    shown.forEach((r, k) => node.children[k].update(r, c.servers.find((s) => s.name === r.server)));
  });
}
function drain(name) {
  const bar = el("progress", {"aria-label": `Drain of ${name}`}), text = el("span");
  const node = el("div", {class: "drain"}, el("b", {}, name), bar, text);
  node.update = (r, s) => {
    const passed = s?.since_ms ?? 0;
    const left = r.may_return_ms, most = r.empty ? 1 : Math.max(1, passed + left);
    setAttribute(bar, "max", String(most));
    setAttribute(bar, "value", String(r.empty ? 1 : passed));
    const tunnels = r.tunnels ? `, ${r.tunnels} of them WebSockets` : "";
    const flight = `${plural(r.in_flight, "request")} in flight${tunnels}`;
    const users = left ? `users may come back for ${span(left)}` : "no user is sent there";
    write(text, r.empty ? `drained: ${r.reason}` : `draining for ${span(passed)}: ${flight}; ${users}`);
  };
  return node;
}

// ---- a rehearsal

const ENDS = {time: "its time was over", errors: "errors rose", stopped: "it was stopped", server_unreachable: "the server became UNREACHABLE", server_not_serving: "the server takes no users any more", other_server_unreachable: "another server became UNREACHABLE", no_takeover: "no other server could take over", reload: "the configuration no longer has it", shutdown: "icm ended"};
/** `rehearsal` of /status; null or absent if there was none. */
function showRehearsal(r, now) {
  const at = (text) => new Date(text).getTime();
  const isOld = r && r.ended_because && now - at(r.ended ?? r.ends) > FINISHED_REHEARSAL;
  const node = $("rehearsal");
  node.hidden = !r || Boolean(isOld);
  if (node.hidden) return;
  rebuild(node, [r.server, r.started], () => {
    node.bar = el("progress", {"aria-label": `Rehearsal for ${r.server}`});
    node.said = el("span");
    return [el("b", {}, "Rehearsal "), node.bar, node.said];
  });
  const most = Math.max(1, at(r.ends) - at(r.started));
  const passed = Math.max(0, Math.min(most, now - at(r.started)));
  setAttribute(node.bar, "max", String(most));
  setAttribute(node.bar, "value", String(r.ended_because ? most : passed));
  const numbers = `${plural(r.requests, "request")}, ${count(r.moved)} moved to another server, ${count(r.failed)} failed, ${count(r.not_found)} not found, ${count(r.denied)} denied`;
  const what = `${r.server} counts as UNREACHABLE for ${r.users_percent} % of the users of ${r.cluster}`;
  const why = ENDS[r.ended_because] ?? String(r.ended_because).replaceAll("_", " ");
  write(node.said, r.ended_because
    ? ` of ${clock(at(r.started))} for ${r.server} has ended: ${why}. ${numbers}.`
    : ` since ${clock(at(r.started))}, for ${span(at(r.ends) - now)} more: ${what}. ${numbers}.`);
  setClass(node, `notice${["errors", "server_unreachable"].includes(r.ended_because) ? " bad" : ""}`);
}

// ---- the request that failed last

const CAUSES = {connect: "could not be reached", broken: "closed the connection", timeout: "did not answer in time", status: "answered with an error", not_found: "did not have the database", "malformed response": "sent what is not HTTP"};
function showLastFailed(node, failed) {
  rebuild(node, [failed ?? null], () => {
    if (!failed) return [];
    const result = failed.page ? `${failed.status} ${failed.page}` : failed.status ? `${failed.status}${failed.status < 500 ? ", cut off" : ""}` : "no answer";
    const attempts = failed.attempts.map((a) => el("li", {}, `${a.server} ${CAUSES[a.cause] ?? (a.cause ?? "began to answer")} (${duration(a.ms)})`));
    return [
      el("h3", {}, "Failed last"),
      el("p", {}, el("time", {datetime: new Date(failed.at).toISOString()}, clock(failed.at)), " ", el("code", {}, `${failed.method} ${failed.path}`), " ",
        el("b", {class: "error"}, result), ` after ${duration(failed.total_ms)}; chosen by: ${failed.why}`),
      attempts.length ? el("ol", {"aria-label": "Attempts"}, ...attempts) : el("p", {class: "faint"}, "No server was asked."),
    ];
  });
}
