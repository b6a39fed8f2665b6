# needs: cachelib redis
"""cachelib's cache on Redis."""

import os

from cachelib import RedisCache

cache = RedisCache(host="127.0.0.1", port=int(os.environ["PORT"]), key_prefix="cachelib:")
assert cache.set("a", {"x": 1}, timeout=60)
assert cache.get("a") == {"x": 1}
assert not cache.add("a", 2, timeout=60)
assert cache.add("b", 2, timeout=60)
assert cache.inc("n", 5) == 5
assert cache.dec("n", 2) == 3
assert cache.has("a")
assert cache.get_many("a", "b", "none") == [{"x": 1}, 2, None]
assert cache.delete("a")
assert cache.get("a") is None
assert sorted(cache.delete_many("b", "n")) == ["b", "n"]
assert cache.clear() in (True, False)
