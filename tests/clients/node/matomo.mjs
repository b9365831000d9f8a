// matomo-tracker: the tracker's address. Single hits are said to nobody, so flush waits for bulks alone.
import MatomoTracker from "matomo-tracker";

export function open({ host, key, fail }) {
  const client = new MatomoTracker(1, `${host}/matomo/matomo.php`);
  client.on("error", fail);
  return Object.assign(client, { key });
}
const hit = ({ key }, uid, more) =>
  ({ url: "https://shop.example/", uid, rand: Math.random(), r: String(Math.random()).slice(2), token_auth: key, ...more });
const bulk = (client, hits) => new Promise((done) => {
  client.trackBulk(hits, done);
  client.once("error", done);
});
export async function calls(client) {
  client.track(hit(client, "u1", { action_name: "Home", cip: "203.0.113.9" }));
  await bulk(client, [
    hit(client, "u1", { e_c: "media", e_a: "play", e_n: "film", e_v: 5 }),
    hit(client, "u1", { idgoal: 0, ec_id: "o-1", revenue: 25.5 }),
    hit(client, "u1", { search: "lamps" }),
  ]);
}
export const track = (client, user, name, { n, ...more }) =>
  bulk(client, [hit(client, user, { e_c: "lamps", e_a: name, e_n: String(n), ...more })]);
