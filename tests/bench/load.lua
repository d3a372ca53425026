-- wrk's half of the bench: the requests of one operation, each about another row (see seed.sql), and its figures.
-- wrk -s load.lua URL -- OPERATION PROJECTS BUSY
local threads, serial = 0, 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(arguments)
  operation, projects, busy = arguments[1], tonumber(arguments[2]), tonumber(arguments[3])
  math.randomseed(os.time() * 16 + number)
  serial = number * 100000000 + os.time() % 1000000 * 50
  make = requests[operation]
  wrk.headers["Content-Type"] = "application/json"
end

local function id(kind, n) return string.format("00000000-0000-7000-%d-%012x", kind, n) end
local function commit(n) return string.format("%08x%032x", (n * 2654435761) % 4294967296, n) end
local function item() return math.random(10 * projects) end
local function flying() return 10 * projects + 1 - math.random(50 * busy) end

requests = {
  empty = function() return "GET", "/" end,
  project = function() return "GET", "/api/v1/projects/" .. id(8000, math.random(projects)) end,
  origin = function()
    return "GET", "/api/v1/projects/by-origin?remote_origin=git%40github.com%3Aacme%2Fservice-" .. math.random(projects) .. ".git"
  end,
  work = function() return "GET", "/api/v1/work/" .. id(9000, item()) end,
  owner = function() return "GET", "/api/v1/work?limit=50&owner_id=agent-" .. math.random(0, 199) end,
  inflight = function() return "GET", "/api/v1/work/inflight?limit=50&project_id=" .. id(8000, math.random(busy)) end,
  everything = function() return "GET", "/api/v1/work/inflight?limit=50" end,
  ticket = function() return "GET", "/api/v1/trace/ticket/RKT-" .. math.random(5 * projects) end,
  commit = function() return "GET", "/api/v1/trace/commit/" .. commit(item()) end,
  events = function() return "GET", "/api/v1/events?event_type=git.commit.pushed&limit=50" end,
  stats = function() return "GET", "/api/v1/stats" end,
  register = function()
    return "POST", "/api/v1/projects", string.format('{"remote_origin":"https://github.com/acme/service-%d"}', math.random(projects))
  end,
  -- each report says something new: the row changes and an event is written every time
  git_state = function()
    serial = serial + 1
    return "PATCH", "/api/v1/work/" .. id(9000, flying()) .. "/git-state", string.format(
      '{"ahead_of_trunk":%d,"last_commit_hash":"%s","last_commit_message":"Change number %d"}', serial, commit(serial), serial)
  end,
}

function request()
  local method, path, body = make()
  return wrk.format(method, path, nil, body)
end

function done(summary, latency, _)
  local e = summary.errors
  print(string.format('RESULT {"requests": %d, "seconds": %f, "p50": %f, "p95": %f, "p99": %f, "failed": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
