# needs: flask flask-caching redis
"""flask-caching on Redis: views and functions that are remembered."""

import os

from flask import Flask
from flask_caching import Cache

app = Flask(__name__)
cache = Cache(
    app,
    config={
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_HOST": "127.0.0.1",
        "CACHE_REDIS_PORT": int(os.environ["PORT"]),
        "CACHE_KEY_PREFIX": "flask:",
    },
)
calls = []


@app.route("/")
@cache.cached(timeout=60)
def page():
    calls.append("page")
    return f"made {len(calls)}"


@cache.memoize(timeout=60)
def double(number):
    calls.append(number)
    return 2 * number


with app.app_context():
    cache.clear()
    client = app.test_client()
    assert client.get("/").data == client.get("/").data == b"made 1"
    assert [double(21), double(21), double(4)] == [42, 42, 8]
    assert calls == ["page", 21, 4]
    cache.delete_memoized(double, 21)
    assert double(21) == 42 and calls[-1] == 21
