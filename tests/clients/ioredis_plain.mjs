// needs: ioredis
// ioredis over one connection and as a cluster client: pipelines, expiry, scans, monitor.

import assert from "node:assert/strict";
import { Redis, Cluster } from "ioredis";

const port = Number(process.env.PORT);

async function commands(client) {
  assert.equal(await client.set("{io}a", "1", "EX", 100), "OK");
  assert.ok((await client.ttl("{io}a")) > 90);
  assert.equal(await client.incr("{io}a"), 2);
  assert.equal(await client.get("{io}none"), null);
  assert.equal(await client.mset("{io}b", "x", "{io}c", "y"), "OK");
  assert.deepEqual(await client.mget("{io}a", "{io}b", "{io}none"), ["2", "x", null]);
  const replies = await client.pipeline().get("{io}a").incr("{io}b").strlen("{io}c").exec();
  assert.deepEqual(replies[0], [null, "2"]);
  assert.match(replies[1][0].message, /^ERR value is not an integer/);
  assert.deepEqual(replies[2], [null, 1]);
  assert.ok((await client.getBuffer("{io}b")).equals(Buffer.from("x")));
  await assert.rejects(client.call("NOSUCH", "a"), /ERR unknown command 'NOSUCH'/);
  assert.equal(await client.del("{io}a", "{io}b", "{io}c"), 3);
}

const plain = new Redis(port, "127.0.0.1", { connectionName: "ioredis" });
await commands(plain);
assert.equal(await plain.client("GETNAME"), "ioredis");
const found = new Set();
await Promise.all([...Array(200).keys()].map((number) => plain.set(`io:${number}`, number)));
for await (const keys of plain.scanStream({ match: "io:*", count: 50 })) {
  keys.forEach((key) => found.add(key));
}
assert.equal(found.size, 200);
const monitor = await plain.monitor();
const seen = new Promise((resolve) => {
  monitor.on("monitor", (time, request) => request.includes("io:7") && resolve(request));
});
await plain.get("io:7");
assert.deepEqual(await seen, ["get", "io:7"]);
monitor.disconnect();

for (const scaleReads of ["master", "slave", "all"]) {
  const cluster = new Cluster([{ host: "127.0.0.1", port }], { scaleReads });
  await commands(cluster);
  const keys = [...Array(200).keys()].map((number) => `io:${number}`);
  await Promise.all(keys.map((key) => cluster.incr(key)));
  const values = await Promise.all(keys.map((key) => cluster.get(key)));
  const round = { master: 1, slave: 2, all: 3 }[scaleReads];
  assert.deepEqual(values, keys.map((_, number) => String(number + round)));
  assert.ok(cluster.nodes("all").length >= 3);
  cluster.disconnect();
}
await Promise.all([...found].map((key) => plain.del(key)));
await plain.quit();
