# needs: redis
"""redis-py with asyncio: many callers over a pool of connections."""

import asyncio
import os

import redis.asyncio as redis

PORT = int(os.environ["PORT"])


async def count(client, name, times):
    for _ in range(times):
        await client.incr(name)


async def main():
    client = redis.Redis(port=PORT, decode_responses=True)
    await client.delete("counter")
    await asyncio.gather(*(count(client, "counter", 50) for _ in range(20)))
    assert await client.get("counter") == "1000"
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.set("a", "1", ex=60).ttl("a").delete("a")
        done, left, deleted = await pipeline.execute()
    assert done is True and 55 <= left <= 60 and deleted == 1
    await client.aclose()


asyncio.run(main())
