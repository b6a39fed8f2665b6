# needs: aiocache redis
"""aiocache on Redis."""

import asyncio
import os

from aiocache import RedisCache

PORT = int(os.environ["PORT"])


async def main():
    try:
        cache = RedisCache(endpoint="127.0.0.1", port=PORT, namespace="aio:")
    except TypeError:
        from redis.asyncio import Redis

        cache = RedisCache(client=Redis(port=PORT), namespace="aio:")
    assert await cache.set("a", "1", ttl=60)
    assert await cache.get("a") == "1"
    assert await cache.exists("a")
    await cache.add("b", "2", ttl=60)
    try:
        await cache.add("b", "3")
        raise AssertionError("it is there")
    except ValueError:
        pass
    assert await cache.multi_get(["a", "b", "none"]) == ["1", "2", None]
    assert await cache.increment("n", 3) == 3
    assert await cache.expire("a", 30)
    assert await cache.delete("a") == 1
    assert await cache.get("a") is None
    await cache.close()


asyncio.run(main())
