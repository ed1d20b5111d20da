# Writes the tables of wrk.md.

function ratio(c, p, q) { return p != q && (c, p) in measured && over(c, p, q) ? sprintf("%.2f (%.2f..%.2f)", mean, lowest, highest) : "-" }
function cost(c, p) { return (c, p) in measured ? sprintf("%.1f", of(c, p, 7)) (is_idle(c) ? " MiB" : "") : "-" }
# A row of a table: its first cell, and one cell for each of shown[1..nshown].
function row(first, cells,    i, line) {
    line = "| " first " |"
    for (i = 1; i <= nshown; i++) line = line " " cells[i] " |"
    print line
}
function heads(first, after,    i, cells, rule) {
    for (i = 1; i <= nshown; i++) { cells[i] = title[shown[i]] (shown[i] == "nginx" ? "" : after); rule = rule "--:|" }
    row(first, cells)
    print "|---|" rule
}

# The order of the columns: ours, the others, nginx.
function columns(with_nginx,    i) {
    nshown = 0
    for (i = 1; i <= nproxies; i++) if (is_ours(proxies[i])) shown[++nshown] = proxies[i]
    if ("haproxy" in title) shown[++nshown] = "haproxy"
    if ("minimal" in title) shown[++nshown] = "minimal"
    if (with_nginx && "nginx" in title) shown[++nshown] = "nginx"
}
function goals(    n, i, c, cells) {
    print "\n## Cost as a ratio to nginx\n"
    print "Geometric mean over the process starts (lowest..highest); 1.00 is nginx's CPU per request, or its memory, in the same start.\n"
    columns(0)
    heads("case", "")
    for (n = 1; n <= ncases; n++) {
        c = cases[n]
        for (i = 1; i <= nshown; i++) cells[i] = ratio(c, shown[i], "nginx")
        row(case_title(c), cells)
    }
}
function costs(    n, i, c, cells) {
    print "\n## CPU microseconds per request\n"
    columns(1)
    heads("case", "")
    for (n = 1; n <= ncases; n++) {
        c = cases[n]
        for (i = 1; i <= nshown; i++) cells[i] = cost(c, shown[i])
        row(case_title(c), cells)
    }
}
# Each build of icm against the minimal proxy and the first build.
function others(    n, i, c, p, line, rule, first) {
    for (i = nproxies; i > 0; i--) if (is_ours(proxies[i])) first = proxies[i]
    if (first == "") return
    print "\n## Other ratios\n"
    line = "| case |"; rule = "|---|"
    for (i = 1; i <= nproxies; i++) {
        p = proxies[i]
        if (is_ours(p) && "minimal" in title) { line = line " " title[p] " / minimal |"; rule = rule "--:|" }
        if (is_ours(p) && p != first) { line = line " " title[p] " / " title[first] " |"; rule = rule "--:|" }
    }
    print line; print rule
    for (n = 1; n <= ncases; n++) {
        c = cases[n]
        line = "| " case_title(c) " |"
        for (i = 1; i <= nproxies; i++) {
            p = proxies[i]
            if (is_ours(p) && "minimal" in title) line = line " " ratio(c, p, "minimal") " |"
            if (is_ours(p) && p != first) line = line " " ratio(c, p, first) " |"
        }
        print line
    }
}
function of_load(c,    i, p, line) {
    print "| proxy | requests/s | p50 ms | p99 ms | CPU us/request | user | system | / nginx | memory MiB |"
    print "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for (i = 1; i <= nproxies; i++) {
        p = proxies[i]
        if (!((c, p) in measured)) continue
        line = sprintf("| %s | %.0f | %.2f | %.2f |", title[p], of(c, p, 4), of(c, p, 5) / 1000, of(c, p, 6) / 1000)
        # Without a proxy there is no cost.
        if (p == "direct") { print line " - | - | - | - | - |"; continue }
        of(c, p, 7)
        line = line sprintf(" %.1f (%.1f..%.1f) |", mean, lowest, highest) sprintf(" %.1f | %.1f |", of(c, p, 8), of(c, p, 9))
        line = line " " ratio(c, p, "nginx") " |"
        of(c, p, 10)
        print line sprintf(" %.0f |", highest)
    }
}
function of_idle(c,    i, p, line) {
    print "| proxy | connections | MiB at the start | MiB with them | KiB for each | / nginx |"
    print "|---|--:|--:|--:|--:|--:|"
    for (i = 1; i <= nproxies; i++) {
        p = proxies[i]
        if (!((c, p) in measured)) continue
        line = sprintf("| %s | %.0f | %.1f |", title[p], of(c, p, 4), of(c, p, 8))
        of(c, p, 7)
        line = line sprintf(" %.1f (%.1f..%.1f) |", mean, lowest, highest)
        print line sprintf(" %.2f | %s |", of(c, p, 9), ratio(c, p, "nginx"))
    }
}

END {
    goals()
    costs()
    others()
    for (n = 1; n <= ncases; n++) {
        print "\n## " toupper(substr(case_title(cases[n]), 1, 1)) substr(case_title(cases[n]), 2) "\n"
        if (is_idle(cases[n])) of_idle(cases[n]); else of_load(cases[n])
    }
}
