-- One order-page event per request, with a message id and a visitor of its own.
local n, salt = 0, 0

function init(args)
  math.randomseed(os.time())
  salt = math.random(1, 1000000000)
end

function request()
  n = n + 1
  local body = string.format(
    '{"type":"track","event":"Product Viewed","messageId":"m-%d-%d","anonymousId":"a-%d-%d",' ..
    '"timestamp":"2026-11-23T12:00:00.000Z","properties":{"product_id":"p%d","name":"Mug",' ..
    '"price":9.5,"quantity":2,"currency":"EUR"},"context":{"page":{' ..
    '"url":"https://shop.example/p/%d","title":"Mug"}}}',
    salt, n, salt, n % 5000, n % 100, n % 100)
  return wrk.format("POST", "/e", { ["Content-Type"] = "text/plain" }, body)
end

-- Pauses between the requests of a connection, in milliseconds: for a steady load below the most.
local pause = tonumber(os.getenv("DELAY") or "0")
if pause > 0 then
  function delay()
    return math.random(0, 2 * pause)
  end
end
