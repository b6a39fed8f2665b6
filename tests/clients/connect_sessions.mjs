// needs: connect-redis express-session redis
// connect-redis, the store of express-session: sessions that expire, are touched and listed.

import assert from "node:assert/strict";
import { promisify } from "node:util";
import { RedisStore } from "connect-redis";
import session from "express-session";
import { createClient } from "redis";

assert.ok(session.Store.prototype.isPrototypeOf(RedisStore.prototype));
const client = await createClient({ url: `redis://127.0.0.1:${process.env.PORT}` }).connect();
const store = new RedisStore({ client, prefix: "session:", ttl: 100 });
const call = (name) => promisify(store[name]).bind(store);
const cookie = { originalMaxAge: 50_000, expires: new Date(Date.now() + 50_000).toJSON() };
await call("set")("one", { cookie, user: "u" });
assert.equal((await call("get")("one")).user, "u");
const ttl = await client.ttl("session:one");
assert.ok(ttl > 40 && ttl <= 50, `${ttl}`);
await call("touch")("one", { cookie: {} });
assert.ok((await client.ttl("session:one")) > 90);
await call("set")("two", { cookie: {} });
assert.equal(await call("length")(), 2);
assert.deepEqual((await call("ids")()).sort(), ["one", "two"]);
assert.equal((await call("all")()).length, 2);
await call("destroy")("one");
assert.ok(!(await call("get")("one")));
await call("clear")();
assert.equal(await call("length")(), 0);
await client.close();
