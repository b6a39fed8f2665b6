// needs: redis
// node-redis over RESP2 and RESP3, and its client of clusters, with reads from replicas.

import assert from "node:assert/strict";
import { createClient, createCluster } from "redis";

const url = `redis://127.0.0.1:${process.env.PORT}`;

for (const RESP of [2, 3]) {
  const client = await createClient({ url, RESP, name: "node-redis" }).connect();
  assert.equal(await client.set("node:a", "1", { expiration: { type: "EX", value: 100 } }), "OK");
  assert.ok((await client.ttl("node:a")) > 90);
  assert.equal(await client.incrBy("node:a", 41), 42);
  assert.equal(await client.getEx("node:a", { type: "PERSIST" }), "42");
  assert.equal(await client.ttl("node:a"), -1);
  const replies = await Promise.all([...Array(100).keys()].map((n) => client.set(`node:${n}`, n)));
  assert.ok(replies.every((reply) => reply === "OK"));
  let count = 0;
  for await (const keys of client.scanIterator({ MATCH: "node:*", COUNT: 20 })) {
    count += keys.length;
  }
  assert.equal(count, 101);
  assert.equal((await client.clientInfo()).name, "node-redis");
  assert.match(await client.info("commandstats"), /cmdstat_set:calls=/);
  assert.equal((await client.configGet("slowlog-max-len"))["slowlog-max-len"], "128");
  await assert.rejects(client.sendCommand(["NOSUCH"]), /ERR unknown command 'NOSUCH'/);
  assert.equal(await client.del(["node:a", ...[...Array(100).keys()].map((n) => `node:${n}`)]), 101);
  await client.close();
}

for (const useReplicas of [false, true]) {
  const cluster = await createCluster({ rootNodes: [{ url }], useReplicas }).connect();
  for (let number = 0; number < 100; number += 1) {
    assert.equal(await cluster.set(`node:${number}`, `${number}`), "OK");
  }
  const reads = [...Array(100).keys()].map((number) => cluster.get(`node:${number}`));
  assert.deepEqual(await Promise.all(reads), [...Array(100).keys()].map(String));
  await Promise.all([...Array(100).keys()].map((number) => cluster.del(`node:${number}`)));
  await cluster.close();
}
