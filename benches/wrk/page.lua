-- Requests in turn what a page of XPages needs: the document and its resources. PAGE_TARGETS has one target a line.
local targets = {}
for line in io.lines(os.getenv("PAGE_TARGETS")) do targets[#targets + 1] = line end
local at = 0
request = function()
  at = at % #targets + 1
  return wrk.format("GET", targets[at])
end

-- One line for page.sh: pages, microseconds, bytes, refused answers, broken connections.
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %.1f %d %d %d %d\n", summary.requests / #targets, summary.duration, summary.bytes,
    e.status, e.connect + e.read + e.write + e.timeout))
end
