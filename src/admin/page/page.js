
"use strict";
// Polls /status and shows the answer. Everything is written as text, never as markup, because users choose titles and
// paths.

const POLL_INTERVAL = 1500, HIDDEN_POLL_INTERVAL = 10000, MAX_POLL_INTERVAL = 30000, REQUEST_TIMEOUT = 10000;
const MAX_EVENTS = 60, MAX_HITS = 20, MINUTE = 60000;
const $ = (id) => document.getElementById(id);
const names = new Intl.ListFormat("en");
const count = (n) => n.toLocaleString("en");
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

/** Creates an element: `el("td", {class: "n", role: "cell"}, "text", child)`. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
/** Writes only changes, so that screen readers do not repeat a text and selections stay. */
function write(node, text) { if (node.textContent !== text) node.textContent = text; }
function setClass(node, name) { if (node.className !== name) node.className = name; }
/** Rebuilds the children only if the data in `shown` has changed. */
function rebuild(node, shown, build) {
  const key = JSON.stringify(shown);
  if (node.shown === key) return;
  node.shown = key;
  node.replaceChildren(...build());
}
const badgeClass = (state) => `badge ${state.replaceAll(" ", "_")}`;
const badge = (state) => el("span", {class: badgeClass(state)}, state);

function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}
function clock(ms) {
  const at = new Date(ms);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toISOString().slice(5, 10)} ${time.slice(0, 5)}`;
}

// ---- requests

class HttpError extends Error {
  constructor(status, message) { super(message); this.status = status; }
}
async function request(target, options = {}) {
  const response = await fetch(target, {cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT), ...options});
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new HttpError(response.status, body.message || `status ${response.status}`);
  return body;
}

let timer, failures = 0, lastGood = Date.now(), polling = false;
async function poll() {
  clearTimeout(timer);
  if (polling) return;
  polling = true;
  try {
    show(await request(`status?events=${MAX_EVENTS}`));
    failures = 0;
    lastGood = Date.now();
    $("offline").hidden = true;
    document.body.classList.remove("stale");
  } catch (error) {
    if (error.status === 401) {
      failures = 0;
      lockOut();
    } else {
      failures += 1;
      const why = error.status ? ` (${error.message})` : "";
      write($("offline"), `No answer since ${clock(lastGood)}${why}. The page shows the data from then and tries again.`);
      $("offline").hidden = false;
      document.body.classList.add("stale");
    }
  }
  polling = false;
  const interval = document.hidden ? HIDDEN_POLL_INTERVAL : POLL_INTERVAL;
  const backoff = failures ? Math.min(MAX_POLL_INTERVAL, POLL_INTERVAL * 2 ** (failures - 1)) : 0;
  timer = setTimeout(poll, Math.max(interval, backoff));
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

// ---- the page

let last = null;
const history = [];
/** Requests per second and answers of each server in the last minute, or since this page was opened. */
function measureLastMinute(status) {
  const now = {at: status.now, total: status.requests.total, answered: new Map()};
  for (const c of status.clusters) for (const s of c.servers) now.answered.set(`${c.name}/${s.name}`, s.counters.answered);
  // After a restart the counters begin at 0.
  if (history.length && history.at(-1).total > now.total) history.length = 0;
  history.push(now);
  while (history.length > 2 && history[1].at <= now.at - MINUTE) history.shift();
  const then = history[0];
  const answered = (key) => now.answered.get(key) - (then.answered.get(key) ?? now.answered.get(key));
  return {answered, rate: now.at > then.at ? (now.total - then.total) * 1000 / (now.at - then.at) : 0};
}

function show(status) {
  const lastMinute = measureLastMinute(status);
  for (const id of ["find", "history"]) $(id).hidden = false;
  const ready = status.draining ? "draining" : status.ready ? "serving" : "not ready";
  write($("ready"), ready);
  setClass($("ready"), `badge ${ready === "serving" ? "good" : "wrong"}`);
  const r = status.requests;
  const numbers = [
    [lastMinute.rate.toFixed(lastMinute.rate < 10 ? 1 : 0), "requests/s"], [count(r.in_flight), "in flight"],
    [count(r.total), "requests"], [count(r.failovers), "failovers"], [count(r.no_server), "without a server"],
  ];
  rebuild($("numbers"), numbers, () => numbers.map(([n, what]) => el("span", {}, el("b", {}, n), ` ${what}`)));
  write($("updated"), clock(status.now));
  write($("version"), `version ${status.version}, since ${clock(status.started_at)}`);
  $("logout").hidden = !status.you.logged_in;
  $("login").hidden = status.you.may_act || !status.you.token_set;
  if (!$("login").hidden && !$("why-login").shown) write($("why-login"), "to restrict and release servers");

  const all = status.clusters.map((c) => [c.name, ...c.servers.map((s) => s.name)]);
  rebuild($("clusters"), [all, status.you.may_act], () => status.clusters.map((c) => cluster(c, status)));
  status.clusters.forEach((c, n) => $("clusters").children[n].update(c, status, lastMinute));
  events(status);
  acme(status.acme);
  reload(status.reload);
  announceChanges(status);
  last = status;
}

function lockOut() {
  for (const id of ["find", "history", "reload"]) $(id).hidden = true;
  $("clusters").replaceChildren();
  $("clusters").shown = "";
  last = null;
  write($("ready"), "locked");
  setClass($("ready"), "badge");
  $("numbers").replaceChildren();
  $("numbers").shown = "";
  write($("updated"), "");
  $("logout").hidden = true;
  $("login").hidden = false;
  if (!$("why-login").shown) write($("why-login"), "the content of the file in admin.token_file");
}

/** Announces changed servers to screen readers. */
function announceChanges(status) {
  const servers = status.clusters.flatMap((c) => c.servers);
  const unavailable = servers.filter((s) => s.state !== "AVAILABLE").length;
  document.title = unavailable ? `icm: ${unavailable} of ${servers.length} not AVAILABLE` : `icm: ${plural(servers.length, "server")} AVAILABLE`;
  if (!last) return;
  const before = new Map(last.clusters.flatMap((c) => c.servers.map((s) => [`${c.name}/${s.name}`, s.state])));
  const changed = status.clusters.flatMap((c) => c.servers.filter((s) => (before.get(`${c.name}/${s.name}`) ?? s.state) !== s.state));
  if (!changed.length) return;
  write($("changes"), changed.map((s) => `${s.name} is ${s.state}`).join(". "));
  if ($("search").value.trim()) search();
}

function reload(r) {
  const restart = r.restart_required.length ? `Restart required for: ${names.format(r.restart_required)}.` : "";
  $("reload").hidden = r.success && !restart;
  rebuild($("reload"), r, () => r.success
    ? [`The configuration of ${clock(r.at)} is only partly in use. ${restart}`]
    : [`The configuration of ${clock(r.at)} was refused; the previous one stays in use.`, el("pre", {}, r.error)]);
  write($("reloaded"), `Configuration ${r.success ? "loaded" : "refused"} ${clock(r.at)}. ${restart}`);
}

/** The hosts with certificates from ACME. */
function acme(hosts) {
  const line = (h) => `${h.host} ${h.expires_at === null ? "has none" : `until ${new Date(h.expires_at).toISOString().slice(0, 10)}`}${h.error ? ` (${h.error})` : ""}`;
  write($("acme"), hosts.length ? `Certificates: ${hosts.map(line).join("; ")}.` : "");
}

// ---- clusters and servers

const COLUMNS = [["Server", ""], ["State", ""], ["Availability", ""], ["In flight", "n"], ["Share, last minute", ""], ["Requests", "n"], ["Failovers", "n"], ["Ports", "wide"]];

function cluster(c, status) {
  const title = `cluster-${status.clusters.indexOf(c)}`;
  const about = el("span", {class: "faint"});
  const rows = c.servers.map((s) => server(s, c, status));
  const head = COLUMNS.map(([name, kind]) => el("th", {role: "columnheader", scope: "col", class: kind}, name));
  if (status.you.may_act) head.push(el("th", {role: "columnheader", scope: "col"}, el("span", {class: "unseen"}, "Action")));
  const lines = el("div", {class: "about small"});
  const age = el("p", {class: "age"}), notes = el("div");
  lines.append(age, notes);
  const node = el("section", {"aria-labelledby": title},
    el("div", {class: "heading"}, el("h2", {id: title}, c.name), about),
    el("table", {role: "table", "aria-labelledby": title},
      el("thead", {role: "rowgroup"}, el("tr", {role: "row"}, ...head)),
      el("tbody", {role: "rowgroup"}, ...rows)),
    lines);
  node.update = (now, whole, lastMinute) => {
    const site = now.site.own ? `, site ${now.site.own}` : "";
    const kind = now.pool_of !== null ? `pool of ${now.pool_of}` : `${now.mode}, ${now.hostnames.length ? names.format(now.hostnames) : "all host names"}`;
    write(about, `${kind}${site}`);
    const sum = now.servers.reduce((all, s) => all + lastMinute.answered(`${now.name}/${s.name}`), 0);
    now.servers.forEach((s, n) => rows[n].update(s, now, whole, sum ? lastMinute.answered(`${now.name}/${s.name}`) / sum : null));
    const d = now.directory;
    const view = d.view ? `, view ${d.view}` : "";
    const every = d.refresh_ms === null ? "" : `, every ${span(d.refresh_ms)}`;
    write(age, now.pool_of !== null ? "" : d.loaded
      ? `Directory: ${plural(d.databases, "database")}, ${plural(d.replicas, "replica")}, from ${d.from}, ${span(d.age_ms)} old (${d.source}${view}${every})`
      : "Directory: not read yet; a request can go to any server");
    rebuild(notes, [d.trouble, d.warnings, d.unknown_servers, d.duplicates, now.members_trouble, now.members_warnings, now.routes, now.facts, now.freshness, now.evidence, now.hints, now.servers.map((s) => s.exposure), now.site.crossing_since], () => [
      now.site.crossing_since ? el("p", {class: "error"}, `New users go to another site since ${clock(now.site.crossing_since)}: no server of site ${now.site.own} takes them`) : null,
      ...[["Directory", d.trouble], ["Servers", now.members_trouble]].filter(([, text]) => text)
        .map(([what, text]) => el("p", {class: "error"}, `${what} cannot be read: ${text}`)),
      d.unknown_servers.length ? el("p", {}, `In the directory, but not in the cluster: ${names.format(d.unknown_servers)}`) : null,
      d.duplicates ? el("p", {}, `${plural(d.duplicates, "duplicate")} in the directory, counted once`) : null,
      ...[...d.warnings, ...now.members_warnings].map((text) => el("p", {}, text)),
      now.routes.length ? el("p", {}, `Routes: ${names.format(now.routes.map((r) => `${r.name} ${plural(r.requests, "request")}`))}`) : null,
      facts(now.facts),
      now.freshness.behind ? el("p", {class: "error"}, `${plural(now.freshness.behind, "replica")} behind, the first since ${clock(now.freshness.behind_since)}: new users go elsewhere`) : null,
      now.evidence.enabled || now.pool_of !== null || now.servers.length < 2 ? null : el("p", {}, "A server that returns gets users at once: nothing can show that it has caught up, or catch_up is off."),
      ...now.servers.filter((s) => s.exposure).map((s) => el("details", {}, el("summary", {}, `${s.name} gets certificates of clients`), el("p", {class: "hint"}, s.exposure))),
      ...now.hints.map((h) => el("details", {}, el("summary", {}, h.what), el("p", {class: "hint"}, h.hint))),
    ].filter((line) => line !== null));
  };
  return node;
}

/** Which facts are read, and from where. */
function facts(all) {
  const read = all.filter((f) => f.sources.length);
  return read.length ? el("p", {}, `Read: ${read.map((f) => `${f.fact} from ${names.format(f.sources)}`).join("; ")}`) : null;
}

function server(s, c, status) {
  const cell = (kind, label, ...inside) => el("td", label ? {role: "cell", class: kind, "data-label": label} : {role: "cell", class: kind}, ...inside);
  const host = el("div", {class: "faint small"}), state = el("span"), why = el("div", {class: "why"});
  const zone = el("i"), level = el("b"), band = el("span", {class: "band", role: "img"}, zone, level);
  const index = el("span"), source = el("div", {class: "faint small"});
  const inFlight = cell("n", "In flight"), requests = cell("n", "Requests"), failovers = cell("n", "Failovers");
  const part = el("b"), bar = el("span", {class: "share", "aria-hidden": "true"}, part), share = el("span");
  const ports = cell("wide", "Ports");
  const row = el("tr", {role: "row", "data-server": s.name},
    el("th", {role: "rowheader", scope: "row", class: "name"}, s.name, host),
    cell("state", "", state, why), cell("index", "", band, " ", index, source),
    inFlight, cell("", "Share", bar, share), requests, failovers, ports);
  let button = null, current = s;
  if (status.you.may_act) {
    button = el("button", {type: "button"});
    button.addEventListener("click", () => act(current, current.restricted_by_admin ? "release" : "restrict"));
    row.append(cell("act", "", button));
  }
  row.update = (now, inCluster, whole, ofAll) => {
    current = {...now, drain_timeout_ms: inCluster.drain_timeout_ms, persistent: whole.restrictions_kept};
    write(host, now.site ? `${now.hostname}, site ${now.site}` : now.hostname);
    write(state, now.state);
    setClass(state, badgeClass(now.state));
    const stale = now.restriction_stale ? " (its source no longer reports)" : "";
    const gate = now.catching_up;
    const waits = gate ? `. Waits until ${clock(gate.limit_at)} at the latest: ${gate.waiting_for.join("; ")}` : "";
    write(why, `for ${span(now.since_ms)}${now.reason ? ": " : ""}${now.reason}${stale}${waits}`);
    const value = now.index ?? now.observed_index;
    const known = value !== null && value !== undefined;
    band.style.setProperty("--index", `${known ? value : 0}%`);
    band.style.setProperty("--threshold", `${now.threshold}%`);
    setClass(band, `band${now.index === null ? " guess" : ""}${now.threshold ? " limited" : ""}`);
    const limit = now.threshold ? `BUSY at ${now.threshold}` : "never BUSY";
    const text = known ? `${Math.round(value)}` : "unknown";
    band.setAttribute("aria-label", `availability index ${text}, ${limit}`);
    write(index, text);
    const origin = now.index_source ? `${now.index_source}, ${span(now.index_age_ms)}` : known ? "observed" : "no source";
    write(source, `${limit}; ${origin}`);
    write(inFlight, count(now.in_flight));
    part.style.setProperty("--share", `${(ofAll ?? 0) * 100}%`);
    write(share, ofAll === null ? "–" : `${Math.round(ofAll * 100)} %`);
    write(requests, count(now.counters.answered));
    write(failovers, count(now.counters.failed_over));
    const list = [["HTTP", now.http, now.http_up, now.http_cause], ["HTTPS", now.https, now.https_up, now.https_cause]].filter(([, at]) => at);
    rebuild(ports, list, () => list.map(([name, at, up, cause]) => {
      const line = el("div", {class: "small", title: cause ? `${at}: ${cause}` : at}, `${name} `);
      line.append(up ? el("span", {class: "faint"}, "up") : el("b", {class: "error"}, "down"));
      return line;
    }));
    if (button) {
      const verb = now.restricted_by_admin ? "Release" : "Restrict";
      write(button, verb);
      button.setAttribute("aria-label", `${verb} ${now.name}`);
    }
  };
  return row;
}

async function act(s, verb) {
  const title = verb === "restrict" ? `Restrict ${s.name}?` : `Release ${s.name}?`;
  const duration = s.persistent ? "even after a restart" : "but only until a restart, because state_dir is not set";
  write($("confirm-title"), title);
  write($("confirm-text"), verb === "restrict"
    ? `New users go to other servers at once. Users on it may stay for ${span(s.drain_timeout_ms)}; ${plural(s.in_flight, "request")} in flight now. The server stays RESTRICTED until it is released, ${duration}.`
    : "The server may get new users again.");
  write($("confirm-yes"), verb === "restrict" ? "Restrict" : "Release");
  const dialog = $("confirm");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, {once: true}));
  if (dialog.returnValue !== "yes") return;
  try {
    const {servers} = await request(`servers/${encodeURIComponent(s.name)}/${verb}`, {method: "POST"});
    showResult(servers.map((o) => outcome(o, verb)).join("\n"), false);
  } catch (error) {
    showResult(`${s.name}: ${error.message}`, true);
  }
  poll();
}
function outcome(o, verb) {
  const lines = [`${o.cluster}: ${o.server} is ${o.state}.`];
  if (verb === "release" && o.restrictions.length) lines.push(`Still restricted: ${o.restrictions.join("; ")}.`);
  const lost = o.last_replicas;
  if (lost.length) lines.push(`No other server can serve ${names.format(lost.slice(0, 10))}${lost.length > 10 ? ` and ${count(lost.length - 10)} more` : ""}.`);
  return lines.join(" ");
}
function showResult(text, bad) {
  setClass($("result"), bad ? "notice bad" : "notice");
  write($("result"), text);
}

// ---- login

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await request("login", {method: "POST", body: new URLSearchParams({token: $("token").value})});
    $("why-login").shown = false;
    write($("why-login"), "");
    $("token").value = "";
    showResult("", false);
  } catch (error) {
    $("why-login").shown = true;
    write($("why-login"), error.status ? error.message : "no answer");
  }
  poll();
});
$("logout").addEventListener("click", async () => {
  await request("logout", {method: "POST"}).catch(() => {});
  poll();
});

// ---- databases

let searches = 0, inputDelay, next = null, hits = [];
/** Searches from the start, or continues the last search. */
async function search(more = false) {
  const query = $("search").value.trim(), number = ++searches, wanted = (more ? hits.length : 0) + MAX_HITS;
  if (!query) { hits = []; next = null; return showHits(query); }
  let from = more ? next : 0, list = more ? hits : [], answer;
  try {
    do {
      const target = `databases?q=${encodeURIComponent(query)}&limit=${wanted - list.length}&from=${from}`;
      answer = await request(target);
      if (number !== searches) return;
      list = [...list, ...answer.databases];
      from = answer.next;
      if (from !== null) write($("found"), `searched ${count(from)} of ${count(answer.total)}`);
    } while (from !== null && list.length < wanted);
  } catch (error) {
    if (number === searches) write($("found"), error.message);
    return;
  }
  [hits, next] = [list, from];
  showHits(query, answer.total);
}
function showHits(query, total) {
  write($("found"), !query ? "" : next !== null ? `the first ${count(hits.length)}` : `${plural(hits.length, "database")} of ${count(total)}`);
  $("more").hidden = next === null;
  rebuild($("hits"), hits, () => hits.map(hit));
}
const NO_SERVER = {no_server: "no server can serve it now", out_of_service: "every replica is out of service", overloaded: "every server is at its in-flight limit"};
function hit(d) {
  const replicas = d.replicas.flatMap((r) => {
    const note = el("span", {class: "faint"});
    if (r.path !== d.path) note.append(`${r.path} `);
    if (r.mark !== "in_service") note.append(el("span", {class: "tag"}, r.mark.replaceAll("_", " ")), " ");
    if (r.verdict) note.append(r.verdict);
    return [el("span", {}, r.server), r.state ? badge(r.state) : el("span", {class: "faint"}, "unknown server"), note];
  });
  const result = d.outcome === "serve" ? `would be served by ${new Intl.ListFormat("en", {type: "disjunction"}).format(d.served_by)}: ${d.why}` : NO_SERVER[d.outcome];
  const explain = last && last.clusters.length === 1
    ? el("a", {href: `explain?url=${encodeURIComponent(`/__${d.replica_id}.nsf`)}`}, "explain") : null;
  return el("li", {},
    el("div", {}, el("span", {class: "path"}, d.path), " ", el("span", {class: "title"}, d.title)),
    el("div", {class: "small"}, el("code", {}, d.replica_id), last && last.clusters.length > 1 ? ` ${d.cluster} ` : " ",
      el("span", d.outcome === "serve" ? {} : {class: "error"}, result), " ", explain),
    el("div", {class: "replicas"}, ...replicas));
}
$("search").addEventListener("input", () => { clearTimeout(inputDelay); inputDelay = setTimeout(() => search(), 200); });
$("search-form").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(inputDelay); search(); });
$("more").addEventListener("click", () => search(true));

// ---- events

function events(status) {
  rebuild($("events"), [status.events.length, status.events[0]], () => status.events.map((e) => {
    const what = el("span", {});
    if (e.new) what.append(badge(e.old), " → ", badge(e.new), e.held_ms === undefined ? "" : ` after ${span(e.held_ms)}: `);
    what.append(e.cause);
    what.className = "cause";
    const source = e.server ?? (e.cluster ? `${e.cluster}, ${e.kind}` : e.kind);
    return el("li", {}, el("time", {class: "faint", datetime: new Date(e.at).toISOString()}, clock(e.at)), el("span", {}, source), what);
  }));
  if (!status.events.length) write($("events"), "No events yet.");
}

poll();
