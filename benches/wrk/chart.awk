# Draws the chart beside wrk.md: CPU microseconds per request, or MiB, with a panel and scale for each case, and for each
# proxy a bar for the geometric mean and a line from the lowest to the highest process start.

function text(x, y, words, more) { printf "<text x=\"%d\" y=\"%d\"%s>%s</text>\n", x, y, more, words }
# One bar of a panel with the scale `scale`.
function draw(c, p, x, top,    m, from, to) {
    m = of(c, p, 7); from = lowest; to = highest
    text(x, top + 13, title[p], "")
    printf "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x + left, top, m * scale, bar, (p in colour) ? colour[p] : "#e07a5f"
    printf "<path d=\"M%.1f %dH%.1f\" stroke=\"black\"/>\n", x + left + from * scale, top + bar / 2, x + left + to * scale
    text(x + left + to * scale + 6, top + 13, sprintf(m < 100 ? "%.1f" : "%.0f", m) (is_idle(c) ? " MiB" : ""), "")
}

END {
    colour["minimal"] = "#8d99ae"; colour["icm"] = "#c1121f"; colour["dist"] = "#780000"; colour["nginx"] = "#2a9d8f"; colour["haproxy"] = "#457b9d"
    bar = 18; columns = 3; wide = 420; left = 130; room = 200
    for (i = 1; i <= nproxies; i++) { bars += proxies[i] != "direct"; if (length(title[proxies[i]]) > 18) { wide = 460; left = 170 } }
    tall = 34 + bars * (bar + 4)
    shown_columns = ncases < columns ? ncases : columns
    width = 20 + shown_columns * wide; height = 40 + int((ncases + columns - 1) / columns) * tall
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, height
    print "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    text(10, 22, "CPU microseconds per request: geometric means, lowest to highest of " starts " process starts", " font-size=\"14\"")
    for (n = 1; n <= ncases; n++) {
        c = cases[n]
        x = 10 + (n - 1) % columns * wide; y = 40 + int((n - 1) / columns) * tall
        text(x, y + 14, case_title(c), " font-weight=\"bold\"")
        most = 0; row = 0
        for (i = 1; i <= nproxies; i++) if (proxies[i] != "direct" && (c, proxies[i]) in measured) { of(c, proxies[i], 7); if (highest > most) most = highest }
        scale = most > 0 ? room / most : 0
        for (i = 1; i <= nproxies; i++)
            if (proxies[i] != "direct" && (c, proxies[i]) in measured) draw(c, proxies[i], x, y + 22 + row++ * (bar + 4))
    }
    print "</svg>"
}
