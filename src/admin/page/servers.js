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
  const drains = el("div", {class: "drains"}), failed = el("div", {class: "failed"});
  const charts = pastOf(c, status.clusters.reduce((all, one) => all + one.servers.length, 0));
  const node = el("section", {"aria-labelledby": title},
    el("div", {class: "heading"}, el("h2", {id: title}, c.name), about),
    el("table", {role: "table", "aria-labelledby": title},
      el("thead", {role: "rowgroup"}, el("tr", {role: "row"}, ...head)),
      el("tbody", {role: "rowgroup"}, ...rows)),
    drains, charts, failed, lines);
  [node.drains, node.past, node.failed] = [drains, charts, failed];
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
