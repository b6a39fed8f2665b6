# needs: redis
"""redis-py, one connection at a time."""

import os
import time

import redis

PORT = int(os.environ["PORT"])

for protocol in (2, 3):
    client = redis.Redis(port=PORT, protocol=protocol, decode_responses=True, db=protocol)
    client.flushdb()
    assert client.set("a", "1") is True
    assert client.get("a") == "1"
    assert client.set("a", "2", nx=True) is None
    assert client.set("a", "2", get=True) == "1"
    assert client.incrby("a", 5) == 7
    assert client.append("a", "0") == 2
    assert client.mset({"{t}1": "x", "{t}2": "y"}) is True
    assert client.mget("{t}1", "none", "{t}2") == ["x", None, "y"]

    assert client.execute_command("SETEX", "session", 100, "data")
    assert 95 <= client.ttl("session") <= 100
    assert client.expire("session", 200, gt=True) is True
    assert client.persist("session") is True
    assert client.ttl("session") == -1
    assert client.ttl("none") == -2
    assert client.getex("session", px=5000) == "data"
    assert 0 < client.pttl("session") <= 5000
    assert client.set("soon", "gone", px=300) is True
    deadline = time.monotonic() + 20
    while client.exists("soon"):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    with client.pipeline(transaction=False) as pipeline:
        for number in range(500):
            pipeline.set(f"key:{number}", number, ex=1000)
            pipeline.get(f"key:{number}")
        replies = pipeline.execute()
    assert replies[1::2] == [str(number) for number in range(500)]
    assert len(list(client.scan_iter("key:*", count=50))) == 500
    assert client.dbsize() >= 500
    assert client.rename("{t}1", "{t}3") is True
    assert client.copy("{t}3", "{t}4") is True
    assert client.randomkey()
    assert client.object("encoding", "{t}3") == "embstr"
    assert client.memory_usage("{t}3") > 0
    assert client.info("keyspace")[f"db{protocol}"]["keys"] >= 500
    client.close()
