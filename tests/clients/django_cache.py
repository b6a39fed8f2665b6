# needs: django django-redis
"""django-redis as the cache of Django."""

import os

import django
from django.conf import settings

settings.configure(
    CACHES={
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{os.environ['PORT']}/4",
        }
    }
)
django.setup()

from django.core.cache import cache  # noqa: E402
from redis import ResponseError  # noqa: E402

cache.clear()
cache.set("a", [1, 2], timeout=60)
assert cache.get("a") == [1, 2]
assert 50 <= cache.ttl("a") <= 60
assert cache.touch("a", 100)
assert 90 <= cache.ttl("a") <= 100
assert not cache.add("a", 3)
assert cache.get_or_set("b", lambda: 7, timeout=60) == 7
cache.set("n", 1, timeout=None)
assert cache.ttl("n") is None
assert sorted(cache.keys("*")) == ["a", "b", "n"]
assert cache.get_many(["a", "b"]) == {"a": [1, 2], "b": 7}
assert cache.delete("a")
assert cache.get("a") is None
# It deletes within MULTI and EXEC, which are refused as a whole.
try:
    cache.delete_pattern("*")
    raise AssertionError("there are no transactions")
except ResponseError as error:
    assert "transactions" in str(error)
assert sorted(cache.keys("*")) == ["b", "n"]
assert cache.delete_many(["b", "n"]) == 2
