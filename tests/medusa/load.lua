-- Asks for the paths that a file lists, one after the other, and says at the end what it met, as JSON.
local paths, at = {}, 0
for path in io.lines(os.getenv("PATHS")) do paths[#paths + 1] = path end
local headers = { ["x-publishable-api-key"] = os.getenv("KEY"), ["accept-encoding"] = "gzip" }
at = tonumber(os.getenv("FROM"))

function request()
  at = at % #paths + 1
  return wrk.format("GET", paths[at], headers)
end

function done(summary, latency)
  local times = {}
  for n = 1, #latency do
    local us, count = latency(n)
    times[n] = ("[%d,%d]"):format(us, count)
  end
  local e = summary.errors
  local unanswered = e.connect + e.read + e.write + e.timeout
  print(("{\"seconds\":%f,\"good\":%d,\"errors\":%d,\"times\":[%s]}"):format(
    summary.duration / 1e6, summary.requests - e.status, e.status + unanswered, table.concat(times, ",")))
end
