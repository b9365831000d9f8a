-- One event of a shop's page per request, with a message id of its own. A visitor sends VISIT of them,
-- one after the other; those who send several are known by an e-mail address.
local n, salt = 0, 0
local visit = tonumber(os.getenv("VISIT") or "1")

function init(args)
  math.randomseed(os.time())
  salt = math.random(1, 1000000000)
end

function request()
  local visitor = math.floor(n / visit)
  n = n + 1
  local traits = ""
  if visit > 1 then
    traits = string.format(',"traits":{"email":"a%d@shop.example"}', visitor)
  end
  local body = string.format(
    '{"type":"track","event":"Product Viewed","messageId":"m-%d-%d","anonymousId":"a-%d-%d",' ..
    '"timestamp":"2026-11-23T12:00:00.000Z","properties":{"product_id":"p%d","name":"Mug",' ..
    '"price":9.5,"quantity":2,"currency":"EUR"},"context":{"page":{' ..
    '"url":"https://shop.example/p/%d","title":"Mug"}%s}}',
    salt, n, salt, visitor, n % 5000, n % 100, traits)
  return wrk.format("POST", "/e", { ["Content-Type"] = "text/plain" }, body)
end

-- Pauses between the requests of a connection, in milliseconds: for a steady load below the most.
local pause = tonumber(os.getenv("DELAY") or "0")
if pause > 0 then
  function delay()
    return math.random(0, 2 * pause)
  end
end
