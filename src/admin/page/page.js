"use strict";
// Polls /status and /history and shows the answers. Everything is written as text, never as markup, because users choose titles and
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
    await pollHistory();
    await pollDrains();
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
  const isNew = $("clusters").shown !== JSON.stringify([all, status.you.may_act]);
  rebuild($("clusters"), [all, status.you.may_act], () => status.clusters.map((c) => cluster(c, status)));
  status.clusters.forEach((c, n) => $("clusters").children[n].update(c, status, lastMinute));
  events(status);
  acme(status.acme);
  reload(status.reload);
  announceChanges(status);
  showRehearsal(status.rehearsal, status.now);
  last = status;
  if (isNew) drawAll();
}

function lockOut() {
  forgetPast();
  for (const id of ["find", "history", "reload", "rehearsal"]) $(id).hidden = true;
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
