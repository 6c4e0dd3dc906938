-- Posts the lines of a file in turn, counts what is answered, and prints it as JSON at the end.
--   wrk -s wrk.lua URL -- FILE WORD
-- Every hundredth answer of status 200 must hold WORD.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  requests, asked, word = {}, 0, arguments[2]
  for line in io.lines(arguments[1]) do
    table.insert(requests, wrk.format(nil, nil, nil, line))
  end
  statuses, wrong, retry_after = {}, 0, 0
end

function request()
  asked = asked + 1
  return requests[(asked - 1) % #requests + 1]
end

function response(status, headers, body)
  local count = (statuses[status] or 0) + 1
  statuses[status] = count
  if status == 200 then
    if count % 100 == 1 and not body:find(word, 1, true) then
      wrong = wrong + 1
    end
  elseif headers["retry-after"] or headers["Retry-After"] then
    retry_after = retry_after + 1
  end
end

function done(summary, latency, _)
  local counts, unlike, later = {}, 0, 0
  for _, thread in ipairs(threads) do
    for status, count in pairs(thread:get("statuses")) do
      counts[status] = (counts[status] or 0) + count
    end
    unlike, later = unlike + thread:get("wrong"), later + thread:get("retry_after")
  end
  local said = {}
  for status, count in pairs(counts) do
    table.insert(said, string.format('"%d": %d', status, count))
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"statuses": {%s}, "wrong": %d, "retry_after": %d, "seconds": %.6f, ' ..
    '"p50_s": %.6f, "p99_s": %.6f, "refused": %d, "broken": %d, "silent": %d}\n',
    table.concat(said, ", "), unlike, later, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.connect, errors.read + errors.write, errors.timeout
  ))
end
