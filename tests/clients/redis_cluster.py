# needs: redis
"""redis-py's client of clusters, which asks for the topology and goes to the leaders of slots."""

import os

from redis.cluster import RedisCluster

PORT = int(os.environ["PORT"])

for options in ({}, {"read_from_replicas": True}, {"protocol": 3}):
    client = RedisCluster(host="127.0.0.1", port=PORT, decode_responses=True, **options)
    assert len(client.get_nodes()) == 3
    # Each node leads some slots and follows in others. The client calls it what it read last.
    assert len(client.get_primaries()) >= 1
    leaders = {client.nodes_manager.get_node_from_slot(slot).port for slot in range(16384)}
    assert len(leaders) == 3
    for number in range(100):
        assert client.set(f"cluster:{number}", number, ex=1000) is True
    for number in range(100):
        assert client.get(f"cluster:{number}") == str(number)
    keys = [f"cluster:{number}" for number in range(100)]
    assert client.mget_nonatomic(keys) == [str(number) for number in range(100)]
    with client.pipeline() as pipeline:
        for key in keys:
            pipeline.incr(key)
        assert pipeline.execute() == [number + 1 for number in range(100)]
    assert client.exists(*keys) == 100
    assert client.cluster_info()["cluster_state"] == "ok"
    slot = client.keyslot("cluster:1")
    assert client.cluster_countkeysinslot(slot) >= 1
    assert "cluster:1" in client.cluster_get_keys_in_slot(slot, 100)
    assert client.delete(*keys) == 100
    client.close()
