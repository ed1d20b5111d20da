# Writes the tables of wrk.md.

function ratio(c, p, q) { return p != q && (c, p) in measured && over(c, p, q, 7) ? sprintf("%.2f (%.2f..%.2f)", median, lowest, highest) : "-" }
function is_ours(p) { return p == "icm" || p == "dist" }

END {
    print "\n## CPU microseconds per request\n"
    line = "| case |"; rule = "|---|"
    for (i = 1; i <= nproxies; i++) if (proxies[i] != "direct") { line = line " " title[proxies[i]] " |"; rule = rule "--:|" }
    for (i = 1; i <= nproxies; i++) if (is_ours(proxies[i])) { line = line " " title[proxies[i]] " / nginx | " title[proxies[i]] " / minimal |"; rule = rule "--:|--:|" }
    both = ("icm" in title) && ("dist" in title)
    if (both) { line = line " " title["dist"] " / " title["icm"] " |"; rule = rule "--:|" }
    print line; print rule
    for (n = 1; n <= ncases; n++) {
        c = cases[n]
        line = "| " case_title(c) " |"
        for (i = 1; i <= nproxies; i++) if (proxies[i] != "direct") line = line (((c, proxies[i]) in measured) ? sprintf(" %.1f |", of(c, proxies[i], 7)) : " - |")
        for (i = 1; i <= nproxies; i++) if (is_ours(proxies[i])) line = line " " ratio(c, proxies[i], "nginx") " | " ratio(c, proxies[i], "minimal") " |"
        if (both) line = line " " ratio(c, "dist", "icm") " |"
        print line
    }
    for (n = 1; n <= ncases; n++) {
        c = cases[n]
        print "\n## " case_title(c) "\n"
        print "| proxy | requests/s | p50 ms | p99 ms | CPU us/request | / nginx | / minimal | memory MiB |"
        print "|---|--:|--:|--:|--:|--:|--:|--:|"
        for (i = 1; i <= nproxies; i++) {
            p = proxies[i]
            if (!((c, p) in measured)) continue
            line = sprintf("| %s | %.0f |", title[p], of(c, p, 4))
            line = line sprintf(" %.2f |", of(c, p, 5) / 1000) sprintf(" %.2f |", of(c, p, 6) / 1000)
            # Without a proxy there is no cost.
            if (p == "direct") { print line " - | - | - | - |"; continue }
            of(c, p, 7)
            line = line sprintf(" %.1f (%.1f..%.1f) |", median, lowest, highest) " " ratio(c, p, "nginx") " | " ratio(c, p, "minimal") " |"
            of(c, p, 8)
            print line sprintf(" %.0f |", highest)
        }
    }
}
