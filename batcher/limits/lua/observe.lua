-- Shares the limits that headers told, and drains what a response says is not left.
-- KEYS: state, processes, one log per window. ARGV: JSON with observed, windows, left (share of each window
-- that is left, or more than 1), tolerance_s, ttl_s.

local told = cjson.decode(ARGV[1])
local now = clock()
if told.observed ~= '' then redis.call('HSET', KEYS[1], 'observed', told.observed) end
for i, w in ipairs(open_windows(told.windows, now, true)) do
  if told.left[i] < w.room - told.tolerance_s / w.span then w.room = told.left[i] end
  save(w, now, told.ttl_s)
end
redis.call('EXPIRE', KEYS[1], told.ttl_s)
return 0
