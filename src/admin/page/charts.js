// ---- the charts of the last hour
//
// The samples come from /history. Every chart has a fixed set of elements, of which an update changes attributes, so that
// the page does not grow and nothing flickers. No sample is drawn twice in two scales: all servers of a cluster share
// those of each column.

const SVG = "http://www.w3.org/2000/svg", WIDTH = 360, HEIGHT = 60;
const MAX_UNFOLDED = 8, MAX_OPEN_SERVERS = 24, MAX_FLAGS = 3, MAX_CHANGES = 3, GAP_SLACK = 1500;
const COLUMNS_OF_SAMPLES = ["requests", "failed", "failovers", "in_flight", "p50_ms", "p99_ms", "index", "state"];

const past = {at: [], took: [], states: [], interval: 10000, max: 360, servers: new Map(), failed: new Map(), next: 0};
/** The time under the cursor in milliseconds since 1970; null: now. */
let cursorAt = null;

function forgetPast() {
  past.at = [];
  past.took = [];
  past.servers.clear();
  past.failed.clear();
  past.next = 0;
  cursorAt = null;
}

/** Adds the samples of an answer, and drops what no longer fits. */
function merge(answer) {
  const known = past.at.length, count = answer.at.length;
  past.at.push(...answer.at);
  past.took.push(...answer.took_ms);
  [past.states, past.interval, past.max] = [answer.states, answer.interval_ms, answer.max_samples];
  const excess = Math.max(0, past.at.length - past.max), present = new Set();
  past.at.splice(0, excess);
  past.took.splice(0, excess);
  for (const c of answer.clusters) {
    past.failed.set(c.name, c.last_failed);
    for (const s of c.servers) {
      const key = `${c.name}/${s.name}`;
      present.add(key);
      if (!past.servers.has(key)) past.servers.set(key, Object.fromEntries(COLUMNS_OF_SAMPLES.map((name) => [name, Array(known).fill(null)])));
      const columns = past.servers.get(key);
      for (const name of COLUMNS_OF_SAMPLES) {
        // A server that joined later has fewer samples.
        columns[name].push(...Array(count - s[name].length).fill(null), ...s[name]);
        columns[name].splice(0, excess);
      }
    }
  }
  for (const key of past.servers.keys()) if (!present.has(key)) past.servers.delete(key);
  const names = new Set(answer.clusters.map((c) => c.name));
  for (const name of past.failed.keys()) if (!names.has(name)) past.failed.delete(name);
  if (cursorAt !== null && !(cursorAt >= past.at[0])) cursorAt = null;
}

/** Asks for what is new, if anything can be. */
async function pollHistory() {
  if (Date.now() < past.next) return;
  const answer = await request(`history?since=${past.at.at(-1) ?? 0}`);
  past.next = Date.now() + Math.max(POLL_INTERVAL, Math.min(answer.interval_ms, HIDDEN_POLL_INTERVAL));
  showHistory(answer);
}
function showHistory(answer) {
  merge(answer);
  drawAll();
}

// ---- numbers

const pastLength = () => past.max * past.interval;
const newest = () => past.at.at(-1) ?? 0;
const xOf = (at) => WIDTH * (1 - (newest() - at) / pastLength());
/** The last sample that is not later than the cursor. */
function cursorIndex() {
  if (cursorAt === null) return past.at.length - 1;
  let ix = past.at.length - 1;
  while (ix > 0 && past.at[ix] - past.took[ix] >= cursorAt) ix -= 1;
  return ix;
}
const perSecond = (n, ix) => n === null || !past.took[ix] ? null : n * 1000 / past.took[ix];
const fixed = (n) => n >= 10 ? count(Math.round(n)) : String(Math.round(n * 10) / 10);
const unknown = (n, text) => n === null || n === undefined ? "–" : text(n);
const duration = (ms) => ms >= 1000 ? `${fixed(ms / 1000)} s` : `${fixed(ms)} ms`;
/** The next round number. */
function niceCeiling(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= n * 0.999) ?? n;
}
const greatest = (lists) => lists.reduce((all, list) => list.reduce((most, n) => n > most ? n : most, all), 0);
const sum = (list) => list.reduce((all, n) => all + (n ?? 0), 0);
const windowText = () => span(pastLength()).replace(/^60 min$/, "hour");

/** The values of a server in the columns that are drawn. */
function valuesOf(columns, total) {
  return {
    rate: columns.requests.map(perSecond),
    p50: columns.p50_ms,
    p99: columns.p99_ms,
    share: columns.requests.map((n, ix) => n === null || !total[ix] ? null : 100 * n / total[ix]),
    index: columns.index,
    failovers: columns.failovers,
  };
}

const linear = (n, most) => HEIGHT * (1 - n / most);
/** From 1 ms. Tenfold is the same height everywhere, so that a page of 5 ms and a form of 5 s fit into one chart. */
const logarithmic = (n, most) => HEIGHT * (1 - Math.log10(Math.max(1, n)) / Math.log10(most));
const CHARTS = [
  {name: "Requests", what: "requests per second", drawn: ["rate"], most: (all) => niceCeiling(Math.max(1, greatest(all.map((v) => v.rate)))), y: linear, area: true,
    scale: (most) => `0–${count(most)}/s`, text: (v) => unknown(v.rate, (n) => `${fixed(n)}/s`)},
  {name: "Response time", what: "response time", drawn: ["p50", "p99"], most: (all) => 10 ** Math.max(2, Math.ceil(Math.log10(Math.max(1, greatest(all.map((v) => v.p99)))))), y: logarithmic, area: true,
    scale: (most) => `1 ms–${duration(most)}`, text: (v) => v.p50 === null || v.p50 === undefined ? "–" : `p50 ${duration(v.p50)}, p99 ${duration(v.p99)}`},
  {name: "Share", what: "share of the cluster's requests", drawn: ["share"], most: () => 100, y: linear, area: true,
    scale: () => "0–100 %", text: (v) => unknown(v.share, (n) => `${Math.round(n)} %`)},
  {name: "Availability index", what: "availability index", drawn: ["index"], most: () => 100, y: linear,
    scale: () => "0–100", text: (v) => unknown(v.index, String)},
  {name: "Failovers", what: "failovers to other servers", drawn: ["failovers"], most: (all) => niceCeiling(Math.max(1, greatest(all.map((v) => v.failovers)))), y: linear, bars: true,
    scale: (most) => `0–${count(most)}`, text: (v) => unknown(v.failovers, count)},
];

/** The times in which a server was not AVAILABLE: `{state, from, to}`; `to` is null if it still is. */
function absences(states) {
  const runs = [];
  states.forEach((state, ix) => {
    const run = runs.at(-1), goes = run && run.to === null;
    if (goes && run.state !== state) run.to = past.at[ix] - past.took[ix];
    if (state && !(goes && run.to === null)) runs.push({state, from: past.at[ix] - past.took[ix], to: null});
  });
  return runs;
}
const absenceText = (run) => `${past.states[run.state]} ${clock(run.from)} ${run.to === null ? "until now" : `to ${clock(run.to)}`}`;

// ---- paths

const point = (ix, y) => `${xOf(past.at[ix]).toFixed(1)} ${y.toFixed(1)}`;
/** The samples without a gap between them, as lists of positions. */
function pieces(list) {
  const found = [];
  let open = null;
  list.forEach((value, ix) => {
    if (value === null || xOf(past.at[ix]) < 0) { open = null; return; }
    if (open && past.at[ix] - past.took[ix] - past.at[ix - 1] > GAP_SLACK) open = null;
    if (!open) found.push(open = []);
    open.push(ix);
  });
  return found;
}
const linePath = (list, y) => pieces(list).map((piece) => piece.length === 1
  ? `M${point(piece[0], y(list[piece[0]]))}h-1`
  : `M${piece.map((ix) => point(ix, y(list[ix]))).join("L")}`).join("");
const areaPath = (list, y) => pieces(list).filter((piece) => piece.length > 1)
  .map((piece) => `M${point(piece[0], HEIGHT)}L${piece.map((ix) => point(ix, y(list[ix]))).join("L")}L${point(piece.at(-1), HEIGHT)}Z`).join("");
function barPath(list, y) {
  const width = Math.max(2.5, WIDTH / past.max);
  return list.map((n, ix) => n && xOf(past.at[ix]) >= 0 ? `M${point(ix, HEIGHT)}V${Math.min(HEIGHT - 4, y(n)).toFixed(1)}h-${width}V${HEIGHT}Z` : "").join("");
}
const bandPath = (runs) => runs.map((run) => {
  const from = Math.max(0, xOf(run.from)), to = run.to === null ? WIDTH : xOf(run.to);
  return to > from ? `M${from.toFixed(1)} 0H${Math.max(to, from + 1).toFixed(1)}V${HEIGHT}H${from.toFixed(1)}Z` : "";
}).join("");

function setAttribute(node, name, value) { if (node.getAttribute(name) !== value) node.setAttribute(name, value); }

// ---- elements

const svgElement = (tag, attributes) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

function chart(kind, serverName) {
  const path = (name) => svgElement("path", {class: name, "vector-effect": "non-scaling-stroke"});
  const drawing = svgElement("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img"});
  const [away, gone, grid, area, first, second, cursor] =
    ["away", "gone", "grid", kind.bars ? "bars" : kind.drawn[1] ? "area second-area" : "area", "line", kind.drawn[1] ? "second" : "limit", "cursor"].map(path);
  grid.setAttribute("d", [90, 180, 270].map((at) => `M${at} 0V${HEIGHT}`).join("") + `M0 ${HEIGHT / 2}H${WIDTH}`);
  drawing.append(away, gone, grid, area, second, first, cursor);
  const value = el("b"), scale = el("span", {class: "scale"});
  const flags = Array.from({length: kind.bars ? MAX_FLAGS : 0}, () => el("span", {class: "flag", "aria-hidden": "true", hidden: ""}));
  const plot = el("div", {class: "plot"}, drawing, ...flags);
  const began = el("span"), axis = el("div", {class: "axis", "aria-hidden": "true"}, began, el("span", {}, "now"));
  const node = el("div", {class: `chart${kind.bars ? " last" : ""}`},
    el("div", {class: "caption"}, el("span", {}, kind.name), scale), value, plot, axis);
  node.draw = (values, most, runs, threshold) => {
    const y = (n) => kind.y(n, most), lists = kind.drawn.map((name) => values[name]);
    setAttribute(away, "d", bandPath(runs.filter((run) => past.states[run.state] !== "UNREACHABLE")));
    setAttribute(gone, "d", bandPath(runs.filter((run) => past.states[run.state] === "UNREACHABLE")));
    if (kind.bars) setAttribute(area, "d", barPath(lists[0], y));
    else {
      if (kind.area) setAttribute(area, "d", areaPath(lists.at(-1), y));
      setAttribute(first, "d", linePath(lists[0], y));
      if (lists[1]) setAttribute(second, "d", linePath(lists[1], y));
    }
    if (kind.name === "Availability index") setAttribute(second, "d", threshold ? `M0 ${y(threshold)}H${WIDTH}` : "");
    write(scale, kind.scale(most));
    write(began, `${span(pastLength())} ago`);
    const at = (ix) => Object.fromEntries(Object.entries(values).map(([name, list]) => [name, list[ix]]));
    const known = lists.at(-1).filter((n) => n !== null);
    const extreme = (pick) => kind.text(Object.fromEntries(kind.drawn.map((name) => [name, known.length ? pick(...known) : null])));
    const limit = kind.name === "Availability index" && threshold ? `, BUSY at ${threshold}` : "";
    const summary = kind.bars
      ? `${count(sum(values.failovers))} in the last ${windowText()}`
      : kind.drawn.length > 1
        ? `now ${kind.text(at(past.at.length - 1))}; p99 from ${known.length ? duration(Math.min(...known)) : "–"} to ${known.length ? duration(Math.max(...known)) : "–"} in the last ${windowText()}`
        : `now ${kind.text(at(past.at.length - 1))}, from ${extreme(Math.min)} to ${extreme(Math.max)} in the last ${windowText()}${limit}`;
    setAttribute(drawing, "aria-label", `${serverName}, ${kind.what}: ${summary}`);
    drawFlags(flags, runs);
    node.point = () => {
      const now = cursorAt === null;
      setAttribute(cursor, "d", now ? "" : `M${xOf(past.at[cursorIndex()]).toFixed(1)} 0V${HEIGHT}`);
      write(value, kind.bars && now ? `${count(sum(values.failovers))} in the last ${windowText()}` : `${kind.text(at(cursorIndex()))}${limit && now ? ` (BUSY at ${threshold})` : ""}`);
    };
    node.point();
  };
  node.point = () => {};
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    if (past.at.length && box.width) setCursor(newest() - pastLength() * (1 - (event.clientX - box.left) / box.width));
  });
  plot.addEventListener("pointerleave", () => setCursor(null));
  return node;
}

/** The names of the last states, above their bands. One that would cover another is left out; the text beside has it. */
function drawFlags(flags, runs) {
  let right = Infinity;
  const shown = [];
  for (const run of [...runs].reverse()) {
    const at = Math.max(0, xOf(run.from) / WIDTH), left = at > 0.6;
    if (shown.length < flags.length && at < right) shown.push({run, at, left});
    right = Math.min(right, at - 0.4);
  }
  flags.forEach((flag, n) => {
    const one = shown[n];
    flag.hidden = !one;
    if (!one) return;
    write(flag, past.states[one.run.state]);
    setClass(flag, `flag ${past.states[one.run.state].replaceAll(" ", "_")}${one.left ? " left" : ""}`);
    flag.style.setProperty("--at", `${(100 * one.at).toFixed(1)}%`);
  });
}

const NUMBERS = ["Requests/s", "p50", "p99", "Share", "Index", "Failovers", "Failed attempts"];
const range = (list, text) => {
  const known = list.filter((n) => n !== null);
  return known.length ? `${text(list.at(-1) ?? known.at(-1))} (${text(Math.min(...known))} to ${text(Math.max(...known))})` : "–";
};

/** The charts of a cluster. */
function pastOf(c, total) {
  const rows = c.servers.map((s) => {
    const changes = el("div", {class: "faint small"}), charts = CHARTS.map((kind) => chart(kind, s.name));
    const numbers = NUMBERS.map((name) => el("td", {role: "cell", "data-label": name}));
    return {
      key: `${c.name}/${s.name}`, changes, charts, numbers,
      node: el("div", {class: "one", role: "group", "aria-label": s.name}, el("div", {class: "who"}, el("b", {class: "name"}, s.name), changes), ...charts),
      row: el("tr", {role: "row"}, el("th", {role: "rowheader", scope: "row", class: "name"}, s.name), ...numbers),
    };
  });
  const slider = el("input", {type: "range", min: "0", step: "1", "aria-label": `Time shown in the charts of ${c.name}`});
  const shownAt = el("span", {class: "at"}), title = el("span"), about = el("span", {class: "faint small"});
  const folded = rows.slice(MAX_UNFOLDED).map((row) => row.node);
  const more = folded.length ? el("details", {class: "more"}, el("summary", {}, `${plural(folded.length, "more server")}`), ...folded) : null;
  const head = ["Server", ...NUMBERS].map((name) => el("th", {role: "columnheader", scope: "col"}, name));
  const table = el("details", {class: "numbers-table"}, el("summary", {class: "small"}, "The same as a table: now (lowest to highest)"),
    el("table", {role: "table", "aria-label": `Numbers of ${c.name}`},
      el("thead", {role: "rowgroup"}, el("tr", {role: "row"}, ...head)),
      el("tbody", {role: "rowgroup"}, ...rows.map((row) => row.row))));
  const node = el("details", {class: "past"}, el("summary", {}, title),
    el("div", {class: "when"}, el("label", {}, "Time ", slider), shownAt, about),
    ...rows.slice(0, MAX_UNFOLDED).map((row) => row.node), more, table);
  node.open = total <= MAX_OPEN_SERVERS;
  let lastValues = [];
  node.draw = (now) => {
    write(title, `Last ${windowText()}`);
    if (!node.open || !past.at.length) return;
    const all = rows.map((row) => past.servers.get(row.key)).map((columns) => columns ?? Object.fromEntries(COLUMNS_OF_SAMPLES.map((name) => [name, past.at.map(() => null)])));
    const totals = past.at.map((_, ix) => all.reduce((most, columns) => most + (columns.requests[ix] ?? 0), 0));
    const values = all.map((columns) => valuesOf(columns, totals)), most = CHARTS.map((kind) => kind.most(values));
    lastValues = values;
    write(about, `a point every ${span(past.interval)}; response times: p50 line, p99 area, tenfold is equally high everywhere`);
    rows.forEach((row, n) => {
      const runs = absences(all[n].state);
      write(row.changes, runs.length ? runs.slice(-MAX_CHANGES).reverse().map(absenceText).join(", ") : "no change of state");
      if (n < MAX_UNFOLDED || more.open) row.charts.forEach((one, k) => one.draw(values[n], most[k], runs, now.servers[n]?.threshold));
      if (table.open) {
        const v = values[n];
        [range(v.rate, fixed), range(v.p50, duration), range(v.p99, duration), range(v.share, (p) => `${Math.round(p)} %`), range(v.index, String), count(sum(v.failovers)), count(sum(all[n].failed))]
          .forEach((text, k) => write(row.numbers[k], text));
      }
    });
    node.point();
  };
  node.point = () => {
    if (!node.open || !past.at.length) return;
    const ix = cursorIndex(), time = cursorAt === null ? "now" : clock(past.at[ix]);
    setAttribute(slider, "max", String(past.at.length - 1));
    slider.value = String(ix);
    write(shownAt, time);
    const said = rows.slice(0, MAX_UNFOLDED).map((row, n) => {
      const state = past.servers.get(row.key)?.state[ix], v = lastValues[n];
      return v ? `${c.servers[n].name} ${unknown(v.rate[ix], (r) => `${fixed(r)} requests a second`)}, ${unknown(v.p99[ix], (ms) => `p99 ${duration(ms)}`)}, ${v.failovers[ix] ? `${plural(v.failovers[ix], "failover")}, ` : ""}${unknown(state, (number) => past.states[number])}` : "";
    });
    setAttribute(slider, "aria-valuetext", `${time}: ${said.join("; ")}`);
    rows.forEach((row) => row.charts.forEach((one) => one.point()));
  };
  slider.addEventListener("input", () => setCursor(Number(slider.value) >= past.at.length - 1 ? null : past.at[Number(slider.value)]));
  for (const fold of [node, more, table]) fold?.addEventListener("toggle", drawAll);
  return node;
}

let pointing = false;
function setCursor(at) {
  cursorAt = at === null ? null : Math.max(past.at[0], Math.min(newest(), at));
  if (pointing) return;
  pointing = true;
  requestAnimationFrame(() => {
    pointing = false;
    for (const node of $("clusters").children) node.past.point();
  });
}
function drawAll() {
  if (!last) return;
  last.clusters.forEach((c, n) => {
    const node = $("clusters").children[n];
    if (!node) return;
    node.past.draw(c);
    showLastFailed(node.failed, past.failed.get(c.name));
  });
}
