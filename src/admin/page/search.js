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
