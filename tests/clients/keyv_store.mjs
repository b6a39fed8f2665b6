// needs: keyv @keyv/redis
// keyv with its store on Redis: values with a time to live, and namespaces.

import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import KeyvRedis from "@keyv/redis";
import { Keyv } from "keyv";

const url = `redis://127.0.0.1:${process.env.PORT}`;
const keyv = new Keyv({ store: new KeyvRedis(url), namespace: "keyv" });
keyv.on("error", (error) => {
  throw error;
});
assert.equal(await keyv.set("a", { b: [1, 2] }), true);
assert.deepEqual(await keyv.get("a"), { b: [1, 2] });
assert.equal(await keyv.has("a"), true);
await keyv.set("short", "x", 30);
await setTimeout(60);
assert.equal(await keyv.get("short"), undefined);
assert.deepEqual(await keyv.get(["a", "short"]), [{ b: [1, 2] }, undefined]);
assert.equal(await keyv.delete("a"), true);
assert.equal(await keyv.get("a"), undefined);
await keyv.set("c", 1);
await keyv.clear();
assert.equal(await keyv.get("c"), undefined);
await keyv.disconnect();
