-- One limit, kept as shares of itself: the rules of batcher/limits/window.py, on this server's clock.
-- The other scripts are run with this one in front of them.

local ROUNDING = 1e-10
local CELLS = 600

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function parse_cell(text)
  local first, last, share = text:match('(%S+) (%S+) (%S+)')
  return tonumber(first), tonumber(last), tonumber(share)
end

-- spec: {name, limit, span_s, held (share that the bucket holds), paced (0 or 1)}
local function open_window(state, log, spec, now, full)
  local w = {name = spec[1], limit = spec[2], span = spec[3], held = spec[4], paced = spec[5] == 1,
             state = state, log = log, booked = 0}
  local kept = redis.call('HMGET', state, w.name .. ':level', w.name .. ':room', w.name .. ':used',
                          w.name .. ':at', w.name .. ':span', w.name .. ':held')
  if kept[1] and tonumber(kept[5]) == w.span then
    local refill = math.max(0, now - tonumber(kept[4])) / w.span
    w.level = math.min(w.held, tonumber(kept[6] or w.held), tonumber(kept[1]) + refill)
    w.room = math.min(1, tonumber(kept[2]) + refill)
    w.used = tonumber(kept[3])
  else
    w.level, w.room, w.used = (full and not kept[1]) and w.held or 0, 1, 0
    redis.call('DEL', log)
  end
  local head = redis.call('LINDEX', log, 0)
  while head do
    local _, last, share = parse_cell(head)
    if last + w.span > now then break end
    w.used = w.used - share
    redis.call('LPOP', log)
    head = redis.call('LINDEX', log, 0)
  end
  if not head then w.used = 0 end
  return w
end

local function write_log(w, now)
  if w.booked == 0 then return end
  local text = redis.call('LINDEX', w.log, -1)
  local first, _, share
  if text then first, _, share = parse_cell(text) end
  if text and now - first < w.span / CELLS then
    redis.call('LSET', w.log, -1, string.format('%.6f %.6f %.17g', first, now, share + w.booked))
  else
    redis.call('RPUSH', w.log, string.format('%.6f %.6f %.17g', now, now, w.booked))
  end
  w.booked = 0
end

local function log_delay(w, share, now)
  local excess = w.used + math.min(share, 1) - 1
  if excess <= ROUNDING then return 0 end
  write_log(w, now)
  for _, text in ipairs(redis.call('LRANGE', w.log, 0, -1)) do
    local _, last, part = parse_cell(text)
    excess = excess - part
    if excess <= ROUNDING then return math.max(last + w.span - now, 0) end
  end
  return w.span
end

local function delay(w, amount, now)
  local share = amount / w.limit
  local missing = math.min(share, 1) - w.room
  if w.paced then missing = math.max(missing, math.min(share, w.held) - w.level) end
  local wait = missing > ROUNDING and missing * w.span or 0
  return math.max(wait, log_delay(w, share, now))
end

local function take(w, amount)
  local share = amount / w.limit
  w.level, w.room, w.used = w.level - share, w.room - share, w.used + share
  w.booked = w.booked + share
end

local function give_back(w, amount)
  local share = amount / w.limit
  w.level = math.min(w.held, w.level + share)
  w.room = math.min(1, w.room + share)
  local index, text = 0, redis.call('LINDEX', w.log, 0)
  while text and share > 0 do
    local first, last, cell = parse_cell(text)
    local part = math.min(share, cell)
    redis.call('LSET', w.log, index, string.format('%.6f %.6f %.17g', first, last, cell - part))
    w.used, share, index = w.used - part, share - part, index + 1
    text = redis.call('LINDEX', w.log, index)
  end
end

local function save(w, now, ttl_s)
  write_log(w, now)
  redis.call('HSET', w.state, w.name .. ':level', string.format('%.17g', w.level),
             w.name .. ':room', string.format('%.17g', w.room), w.name .. ':used',
             string.format('%.17g', w.used), w.name .. ':at', string.format('%.6f', now),
             w.name .. ':span', string.format('%.17g', w.span), w.name .. ':held', string.format('%.17g', w.held))
  redis.call('EXPIRE', w.log, ttl_s)
end

local function open_windows(specs, now, full)
  local windows = {}
  for i, spec in ipairs(specs) do
    windows[i] = open_window(KEYS[1], KEYS[2 + i], spec, now, full)
  end
  return windows
end
