-- Books what was settled, admits as many of those who wait as the limits allow, in their order, and hands out
-- spare permits if some are left.
-- KEYS: state, processes, one log per window. ARGV: an Ask (batcher/limits/exchange.py) as JSON.
-- Returns a Reply as JSON.

local ask = cjson.decode(ARGV[1])
local now = clock()

local others_in_flight, alive = 0, 1
local known = redis.call('HGETALL', KEYS[2])
for i = 1, #known, 2 do
  if known[i] ~= ask.process then
    local seen, in_flight = known[i + 1]:match('(%S+) (%S+)')
    local silent_s = now - tonumber(seen)
    if silent_s > ask.forgotten_after_s then
      redis.call('HDEL', KEYS[2], known[i])
    else
      alive = alive + 1
      if silent_s <= ask.lost_after_s then others_in_flight = others_in_flight + tonumber(in_flight) end
    end
  end
end

local shared = redis.call('HMGET', KEYS[1], 'observed', 'cool_until', 'cool_reason')
local reply = {admitted = 0, spare = 0, wait_s = 0, why = '', alive = alive, observed = '',
               cool_s = math.max(0, (tonumber(shared[2] or '0')) - now), cool_reason = shared[3] or '',
               rooms = {}}

local is_stale = shared[1] and shared[1] ~= ask.observed
if is_stale then
  reply.observed = shared[1] -- this process does not know the limits in force: it learns them and asks again
else
  if ask.observed ~= '' then redis.call('HSET', KEYS[1], 'observed', ask.observed) end
  local windows = open_windows(ask.windows, now, ask.resumed == 0)
  for i, w in ipairs(windows) do
    if ask.settled[i] > 0 then give_back(w, ask.settled[i]) else take(w, -ask.settled[i]) end
  end

  if reply.cool_s > 0 then
    reply.wait_s, reply.why = reply.cool_s, 'cool'
  else
    for _, charge in ipairs(ask.queue) do
      if ask.concurrency > 0 and others_in_flight + ask.in_flight + reply.admitted >= ask.concurrency then
        reply.wait_s, reply.why = 0.001, 'in flight'
        break
      end
      for i, w in ipairs(windows) do
        local wait_s = delay(w, charge[i], now)
        if wait_s > reply.wait_s then reply.wait_s, reply.why = wait_s, w.name end
      end
      if reply.wait_s > 0 then break end
      for i, w in ipairs(windows) do take(w, charge[i]) end
      reply.admitted = reply.admitted + 1
    end

    -- Spare permits leave half a bucket to the others and never go where somebody waits.
    if reply.admitted == #ask.queue and ask.spare_count > 0 then
      local part = 1
      for i, w in ipairs(windows) do
        local free = math.min(w.room, 1 - w.used)
        if w.paced then free = math.min(free, w.level - w.held / 2) end
        if ask.spare[i] > 0 then part = math.min(part, free * w.limit / ask.spare[i]) end
      end
      reply.spare = math.max(0, math.floor(ask.spare_count * part + ROUNDING))
      for i, w in ipairs(windows) do take(w, ask.spare[i] * reply.spare / ask.spare_count) end
    end
  end

  for i, w in ipairs(windows) do
    save(w, now, ask.ttl_s)
    reply.rooms[i] = w.room
  end
end

if ask.leaving == 1 then
  redis.call('HDEL', KEYS[2], ask.process)
else
  redis.call('HSET', KEYS[2], ask.process, string.format('%.6f %d', now, ask.in_flight + reply.admitted))
end
redis.call('EXPIRE', KEYS[1], ask.ttl_s)
redis.call('EXPIRE', KEYS[2], ask.ttl_s)
return cjson.encode(reply)
