
"use strict";
// Asks /status again and again and shows what it says. Everything is written as text, never as markup: titles
// and paths are whatever somebody once typed.

const PERIOD = 1500, HIDDEN = 10000, LONGEST = 30000, PATIENCE = 10000, EVENTS = 60, HITS = 20, MINUTE = 60000;
const $ = (id) => document.getElementById(id);
const names = new Intl.ListFormat("en");
const count = (n) => n.toLocaleString("en");
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

/** An element: `el("td", {class: "n", role: "cell"}, "text", child)`. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
/** Writes only what differs: no reader is told twice, and nothing that is selected is lost. */
function write(node, text) { if (node.textContent !== text) node.textContent = text; }
function mark(node, name) { if (node.className !== name) node.className = name; }
/** Builds the children anew only when what they show has changed. */
function keep(node, shown, build) {
  const key = JSON.stringify(shown);
  if (node.shown === key) return;
  node.shown = key;
  node.replaceChildren(...build());
}
const word = (state) => el("span", {class: `word ${state}`}, state);

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

// ---- asking

class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}
async function ask(target, options = {}) {
  const answer = await fetch(target, {cache: "no-store", signal: AbortSignal.timeout(PATIENCE), ...options});
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.message || `answered ${answer.status}`);
  return said;
}

let timer, failures = 0, lastGood = Date.now(), asking = false;
async function poll() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  try {
    show(await ask(`status?events=${EVENTS}`));
    failures = 0;
    lastGood = Date.now();
    $("silence").hidden = true;
    document.body.classList.remove("stale");
  } catch (error) {
    if (error.status === 401) {
      failures = 0;
      lockOut();
    } else {
      failures += 1;
      const why = error.status ? ` (${error.message})` : "";
      write($("silence"), `No answer since ${clock(lastGood)}${why}. What is shown is from then; asking again.`);
      $("silence").hidden = false;
      document.body.classList.add("stale");
    }
  }
  asking = false;
  const usual = document.hidden ? HIDDEN : PERIOD;
  timer = setTimeout(poll, failures ? Math.max(usual, Math.min(LONGEST, PERIOD * 2 ** (failures - 1))) : usual);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

// ---- the whole

let last = null;
const history = [];
/** What was counted in the last minute, or since this page was opened. */
function lately(status) {
  const now = {at: status.now, total: status.requests.total, answered: new Map()};
  for (const c of status.clusters) for (const s of c.servers) now.answered.set(`${c.name}/${s.name}`, s.counters.answered);
  // After a restart everything counts from 0 again.
  if (history.length && history.at(-1).total > now.total) history.length = 0;
  history.push(now);
  while (history.length > 2 && history[1].at <= now.at - MINUTE) history.shift();
  const then = history[0];
  const answered = (key) => now.answered.get(key) - (then.answered.get(key) ?? now.answered.get(key));
  return {answered, rate: now.at > then.at ? (now.total - then.total) * 1000 / (now.at - then.at) : 0};
}

function show(status) {
  const lastMinute = lately(status);
  for (const id of ["find", "history"]) $(id).hidden = false;
  const ready = status.draining ? "draining" : status.ready ? "serving" : "not ready";
  write($("ready"), ready);
  mark($("ready"), `word ${ready === "serving" ? "good" : "wrong"}`);
  const r = status.requests;
  const numbers = [
    [lastMinute.rate.toFixed(lastMinute.rate < 10 ? 1 : 0), "requests/s"], [count(r.in_flight), "in flight"],
    [count(r.total), "requests"], [count(r.failovers), "failovers"], [count(r.no_server), "without a server"],
  ];
  keep($("numbers"), numbers, () => numbers.map(([n, what]) => el("span", {}, el("b", {}, n), ` ${what}`)));
  write($("updated"), clock(status.now));
  write($("version"), `version ${status.version}, since ${clock(status.started_at)}`);
  $("logout").hidden = !status.you.logged_in;
  $("login").hidden = status.you.may_act || !status.you.token_set;
  if (!$("login").hidden && !$("why-login").shown) write($("why-login"), "to restrict and release servers");

  const all = status.clusters.map((c) => [c.name, ...c.servers.map((s) => s.name)]);
  keep($("clusters"), [all, status.you.may_act], () => status.clusters.map((c) => cluster(c, status)));
  status.clusters.forEach((c, n) => $("clusters").children[n].update(c, status, lastMinute));
  events(status);
  reload(status.reload);
  changes(status);
  last = status;
}

function lockOut() {
  for (const id of ["find", "history", "reload"]) $(id).hidden = true;
  $("clusters").replaceChildren();
  $("clusters").shown = "";
  last = null;
  write($("ready"), "locked");
  mark($("ready"), "word");
  $("numbers").replaceChildren();
  $("numbers").shown = "";
  write($("updated"), "");
  $("logout").hidden = true;
  $("login").hidden = false;
  if (!$("why-login").shown) write($("why-login"), "the content of the file that admin.token_file names");
}

/** Says aloud which servers have changed, and only that. */
function changes(status) {
  const servers = status.clusters.flatMap((c) => c.servers);
  const away = servers.filter((s) => s.state !== "AVAILABLE").length;
  document.title = away ? `icm: ${away} of ${servers.length} not AVAILABLE` : `icm: ${plural(servers.length, "server")} AVAILABLE`;
  if (!last) return;
  const before = new Map(last.clusters.flatMap((c) => c.servers.map((s) => [`${c.name}/${s.name}`, s.state])));
  const said = status.clusters.flatMap((c) => c.servers.filter((s) => (before.get(`${c.name}/${s.name}`) ?? s.state) !== s.state));
  if (!said.length) return;
  write($("changes"), said.map((s) => `${s.name} is ${s.state}`).join(". "));
  if ($("search").value.trim()) search();
}

function reload(r) {
  const restart = r.restart_required.length ? `Restart required for: ${names.format(r.restart_required)}.` : "";
  $("reload").hidden = r.success && !restart;
  keep($("reload"), r, () => r.success
    ? [`The configuration of ${clock(r.at)} is in force, but not the whole of it. ${restart}`]
    : [`The configuration of ${clock(r.at)} was refused, the one before it stays in force.`, el("pre", {}, r.error)]);
  write($("reloaded"), `Configuration ${r.success ? "loaded" : "refused"} ${clock(r.at)}. ${restart}`);
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
    write(about, `${now.mode}, ${now.hostnames.length ? names.format(now.hostnames) : "every host name"}`);
    const sum = now.servers.reduce((all, s) => all + lastMinute.answered(`${now.name}/${s.name}`), 0);
    now.servers.forEach((s, n) => rows[n].update(s, now, whole, sum ? lastMinute.answered(`${now.name}/${s.name}`) / sum : null));
    const d = now.directory;
    const every = d.refresh_ms === null ? "" : `, every ${span(d.refresh_ms)}`;
    write(age, d.loaded
      ? `Directory: ${plural(d.databases, "database")}, ${plural(d.replicas, "replica")}, from ${d.from}, ${span(d.age_ms)} old (${d.source}${every})`
      : "Directory: nothing read yet; every request goes to any member");
    keep(notes, [d.trouble, d.warnings, d.not_members, d.duplicates, now.members_trouble, now.members_warnings, now.hints], () => [
      ...[["Directory", d.trouble], ["Servers", now.members_trouble]].filter(([, text]) => text)
        .map(([what, text]) => el("p", {class: "trouble"}, `${what} not readable: ${text}`)),
      d.not_members.length ? el("p", {}, `In the directory, but no members: ${names.format(d.not_members)}`) : null,
      d.duplicates ? el("p", {}, `${plural(d.duplicates, "line")} of the directory twice there, counted once`) : null,
      ...[...d.warnings, ...now.members_warnings].map((text) => el("p", {}, text)),
      ...now.hints.map((h) => el("details", {}, el("summary", {}, h.what), el("p", {class: "hint"}, h.hint))),
    ].filter((line) => line !== null));
  };
  return node;
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
    current = {...now, drain_timeout_ms: inCluster.drain_timeout_ms, kept: whole.restrictions_kept};
    write(host, now.hostname);
    write(state, now.state);
    mark(state, `word ${now.state}`);
    const stale = now.restriction_stale ? " (its source has fallen silent)" : "";
    write(why, `for ${span(now.since_ms)}${now.reason ? ": " : ""}${now.reason}${stale}`);
    const value = now.index ?? now.observed_index;
    const known = value !== null && value !== undefined;
    band.style.setProperty("--index", `${known ? value : 0}%`);
    band.style.setProperty("--threshold", `${now.threshold}%`);
    mark(band, `band${now.index === null ? " guess" : ""}${now.threshold ? " limited" : ""}`);
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
    keep(ports, list, () => list.map(([name, at, up, cause]) => {
      const line = el("div", {class: "small", title: cause ? `${at}: ${cause}` : at}, `${name} `);
      line.append(up ? el("span", {class: "faint"}, "up") : el("b", {class: "trouble"}, "dead"));
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
  const kept = s.kept ? "also over a restart" : "but not over a restart, as there is no state_dir";
  write($("ask-title"), title);
  write($("ask-text"), verb === "restrict"
    ? `New users go to other servers at once. Those inside may stay for ${span(s.drain_timeout_ms)}; ${plural(s.in_flight, "request")} in flight there now. It stays so until somebody releases it, ${kept}.`
    : "New users may be sent there again.");
  write($("ask-yes"), verb === "restrict" ? "Restrict" : "Release");
  const dialog = $("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, {once: true}));
  if (dialog.returnValue !== "yes") return;
  try {
    const {servers} = await ask(`servers/${encodeURIComponent(s.name)}/${verb}`, {method: "POST"});
    say(servers.map((o) => outcome(o, verb)).join("\n"), false);
  } catch (error) {
    say(`${s.name}: ${error.message}`, true);
  }
  poll();
}
function outcome(o, verb) {
  const lines = [`${o.cluster}: ${o.server} is ${o.state}.`];
  if (verb === "release" && o.restrictions.length) lines.push(`Still restricted: ${o.restrictions.join("; ")}.`);
  const lost = o.last_replicas;
  if (lost.length) lines.push(`Nobody else can serve ${names.format(lost.slice(0, 10))}${lost.length > 10 ? ` and ${count(lost.length - 10)} more` : ""}.`);
  return lines.join(" ");
}
function say(text, bad) {
  mark($("said"), bad ? "notice bad" : "notice");
  write($("said"), text);
}

// ---- the login

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("login", {method: "POST", body: new URLSearchParams({token: $("token").value})});
    $("why-login").shown = false;
    write($("why-login"), "");
    $("token").value = "";
    say("", false);
  } catch (error) {
    $("why-login").shown = true;
    write($("why-login"), error.status ? error.message : "no answer");
  }
  poll();
});
$("logout").addEventListener("click", async () => {
  await ask("logout", {method: "POST"}).catch(() => {});
  poll();
});

// ---- databases

let run = 0, pause, next = null, hits = [];
/** From the start, or on from where the last search has stopped. */
async function search(on = false) {
  const question = $("search").value.trim(), mine = ++run, wanted = (on ? hits.length : 0) + HITS;
  if (!question) { hits = []; next = null; return found(question); }
  let from = on ? next : 0, list = on ? hits : [], answer;
  try {
    do {
      const target = `databases?q=${encodeURIComponent(question)}&limit=${wanted - list.length}&from=${from}`;
      answer = await ask(target);
      if (mine !== run) return;
      list = [...list, ...answer.databases];
      from = answer.next;
      if (from !== null) write($("found"), `searched ${count(from)} of ${count(answer.total)}`);
    } while (from !== null && list.length < wanted);
  } catch (error) {
    if (mine === run) write($("found"), error.message);
    return;
  }
  [hits, next] = [list, from];
  found(question, answer.total);
}
function found(question, total) {
  write($("found"), !question ? "" : next !== null ? `the first ${count(hits.length)}` : `${plural(hits.length, "database")} of ${count(total)}`);
  $("more").hidden = next === null;
  keep($("hits"), hits, () => hits.map(hit));
}
const NOBODY = {no_server: "nobody could serve it now", out_of_service: "every replica is out of service", overloaded: "every server has its hands full"};
function hit(d) {
  const replicas = d.replicas.flatMap((r) => {
    const note = el("span", {class: "faint"});
    if (r.path !== d.path) note.append(`${r.path} `);
    if (r.mark !== "in_service") note.append(el("span", {class: "tag"}, r.mark.replaceAll("_", " ")), " ");
    if (r.verdict) note.append(r.verdict);
    return [el("span", {}, r.server), r.state ? word(r.state) : el("span", {class: "faint"}, "no member"), note];
  });
  const who = d.outcome === "serve" ? `would be served by ${new Intl.ListFormat("en", {type: "disjunction"}).format(d.served_by)}: ${d.why}` : NOBODY[d.outcome];
  const explain = last && last.clusters.length === 1
    ? el("a", {href: `explain?url=${encodeURIComponent(`/__${d.replica_id}.nsf`)}`}, "explain") : null;
  return el("li", {},
    el("div", {}, el("span", {class: "path"}, d.path), " ", el("span", {class: "title"}, d.title)),
    el("div", {class: "small"}, el("code", {}, d.replica_id), last && last.clusters.length > 1 ? ` ${d.cluster} ` : " ",
      el("span", d.outcome === "serve" ? {} : {class: "trouble"}, who), " ", explain),
    el("div", {class: "replicas"}, ...replicas));
}
$("search").addEventListener("input", () => { clearTimeout(pause); pause = setTimeout(() => search(), 200); });
$("search-form").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(pause); search(); });
$("more").addEventListener("click", () => search(true));

// ---- events

function events(status) {
  keep($("events"), [status.events.length, status.events[0]], () => status.events.map((e) => {
    const what = el("span", {});
    if (e.new) what.append(word(e.old), " → ", word(e.new), e.held_ms === undefined ? "" : ` after ${span(e.held_ms)}: `);
    what.append(e.cause);
    what.className = "cause";
    const who = e.server ?? (e.cluster ? `${e.cluster}, ${e.kind}` : e.kind);
    return el("li", {}, el("time", {class: "faint", datetime: new Date(e.at).toISOString()}, clock(e.at)), el("span", {}, who), what);
  }));
  if (!status.events.length) write($("events"), "Nothing has happened yet.");
}

poll();
