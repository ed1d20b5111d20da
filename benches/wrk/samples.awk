# Reads the samples of run.sh for report.awk and chart.awk.
#
# Input: lines of case, round, proxy, requests a second, p50 and p99 in microseconds, CPU microseconds a request, MiB.
# Sets `cases[1..ncases]`, `proxies[1..nproxies]`, `value[case, round, proxy, column]`, and defines the functions below.

BEGIN {
    parts = split(titles, pairs, ";")
    for (i = 1; i < parts; i++) { split(pairs[i], pair, "="); title[pair[1]] = pair[2]; proxies[++nproxies] = pair[1] }
}
{
    if (!($1 in known)) { known[$1] = 1; cases[++ncases] = $1 }
    if ($2 > rounds) rounds = $2
    measured[$1, $3] = 1
    for (k = 4; k <= NF; k++) value[$1, $2, $3, k] = $k
}

# Of the numbers list[1..n]: sets median, lowest, highest.
function spread(list, n,    i, j, t) {
    for (i = 2; i <= n; i++) for (j = i; j > 1 && list[j - 1] > list[j]; j--) { t = list[j]; list[j] = list[j - 1]; list[j - 1] = t }
    lowest = list[1]; highest = list[n]
    median = n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}
# One column of a proxy in a case, over the rounds.
function of(c, p, k,    i, n, list) {
    for (i = 1; i <= rounds; i++) if ((c, i, p, k) in value) list[++n] = value[c, i, p, k]
    spread(list, n)
    return median
}
# The ratio of a column of two proxies, round by round. False if one was not measured.
function over(c, p, q, k,    i, n, list) {
    for (i = 1; i <= rounds; i++) if ((c, i, p, k) in value && value[c, i, q, k] > 0) list[++n] = value[c, i, p, k] / value[c, i, q, k]
    if (n) spread(list, n)
    return n > 0
}
function case_title(c,    part, n) {
    n = split(c, part, "-")
    if (part[1] == "close") return "Connection: close, 1 KiB, " part[2] " connections"
    if (part[1] == "full") return "full TLS handshake (P-256), " part[2] " connections"
    if (part[1] == "fullrsa") return "full TLS handshake (RSA 2048), " part[2] " connections"
    if (part[1] == "resumed") return "resumed TLS handshake (P-256), " part[2] " connections"
    if (part[1] == "tls") return "TLS keep-alive, " size(part[2]) ", " part[3] " connections"
    return size(part[1]) ", " part[2] " connections"
}
function size(text) { return text ~ /[kM]$/ ? substr(text, 1, length(text) - 1) (text ~ /k$/ ? " KiB" : " MiB") : text " bytes" }
