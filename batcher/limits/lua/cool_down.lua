-- Admits nothing for a while, in every process. Of two cool-downs the one that ends later counts.
-- KEYS: state. ARGV: seconds, reason, seconds to keep the state.

local ends = clock() + tonumber(ARGV[1])
local known = tonumber(redis.call('HGET', KEYS[1], 'cool_until') or '0')
if ends > known then
  redis.call('HSET', KEYS[1], 'cool_until', string.format('%.6f', ends), 'cool_reason', ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 0
