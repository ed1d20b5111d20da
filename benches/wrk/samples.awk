# Reads the samples of run.sh for report.awk and chart.awk.
#
# Input: lines of case, start, proxy, requests a second, p50 and p99 in microseconds, CPU microseconds a request, those of them
# in the program and in the kernel, peak MiB. For idle connections: case, start, proxy, connections, 0, 0, MiB with them, MiB
# before, KiB for each, 0. So column 7 is what a case compares.
# Sets `cases[1..ncases]`, `proxies[1..nproxies]`, `value[case, start, proxy, column]`, and defines the functions below.

BEGIN {
    parts = split(titles, pairs, ";")
    for (i = 1; i < parts; i++) { split(pairs[i], pair, "="); title[pair[1]] = pair[2]; proxies[++nproxies] = pair[1] }
}
{
    if (!($1 in known)) { known[$1] = 1; cases[++ncases] = $1 }
    if ($2 > starts) starts = $2
    measured[$1, $3] = 1
    for (k = 4; k <= NF; k++) value[$1, $2, $3, k] = $k
}

# Of the numbers list[1..n]: sets median, mean (the geometric one), lowest, highest.
function spread(list, n,    i, j, t, sum, zero) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j - 1] > list[j]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    lowest = list[1]; highest = list[n]
    median = n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    for (i = 1; i <= n; i++) { if (list[i] <= 0) zero = 1; else sum += log(list[i]) }
    mean = zero || !n ? median : exp(sum / n)
}
# One column of a proxy in a case, over the starts. Returns the geometric mean.
function of(c, p, k,    i, n, list) {
    for (i = 1; i <= starts; i++) if ((c, i, p, k) in value) list[++n] = value[c, i, p, k]
    spread(list, n)
    return mean
}
# The ratio of what two proxies cost, start by start. False if one was not measured.
function over(c, p, q,    i, n, list) {
    for (i = 1; i <= starts; i++) if ((c, i, p, 7) in value && value[c, i, q, 7] > 0) list[++n] = value[c, i, p, 7] / value[c, i, q, 7]
    if (n) spread(list, n)
    return n > 0
}
function is_ours(p) { return p != "direct" && p != "minimal" && p != "nginx" && p != "haproxy" }
function is_idle(c) { return c ~ /^idle-/ }
function thousands(n) { return n >= 1000 && n % 1000 == 0 ? n / 1000 ",000" : n }
function case_title(c,    part, n) {
    n = split(c, part, "-")
    if (part[1] == "idle") return "memory with " thousands(part[2]) " idle connections"
    if (part[1] == "close") return "Connection: close, 1 KiB, " part[2] " connections"
    if (part[1] == "full") return "full TLS handshake (P-256), " part[2] " connections"
    if (part[1] == "fullrsa") return "full TLS handshake (RSA 2048), " part[2] " connections"
    if (part[1] == "resumed") return "resumed TLS handshake (P-256), " part[2] " connections"
    if (part[1] == "tls") return "HTTPS kept alive, " size(part[2]) ", " part[3] " connections"
    return "kept alive, " size(part[1]) ", " part[2] " connections"
}
function size(text) { return text ~ /[kM]$/ ? substr(text, 1, length(text) - 1) (text ~ /k$/ ? " KiB" : " MiB") : text " bytes" }
