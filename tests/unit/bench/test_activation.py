"""The table of bench.activation."""

from bench.activation import report


def test_there_is_a_column_for_each_pair_that_loaded_its_collections() -> None:
    place = {"rss": 200.0, "anonymous": 150.0, "parents_rss": 0.0}
    memory = {"active": place, "standby": place}
    later = {"active": {**place, "rss": 210.0}, "standby": {**place, "rss": 190.0}}
    ours = {
        "product": "coordd",
        "collections": 100_000,
        "ttl_s": 60,
        "memory_mb": memory,
        "later_memory_mb": later,
        "cold_starts_ms": [8000.0, 9000.0, 8100.0],
        "runs": [
            {"event": "kill -9", "activation_ms": 2.5, "outage_ms": 20.0, "phases_ms": {"ready": 0.5}},
            {"event": "switchover", "activation_ms": 3.5, "outage_ms": 15.0, "phases_ms": {}},
        ],
    }
    theirs = {
        "product": "milvus",
        "collections": 1000,
        "ttl_s": 5,
        "memory_mb": memory,
        "later_memory_mb": later,
        "cold_starts_ms": [1200.0, 1300.0],
        "runs": [{"event": "kill -9", "activation_ms": 900.0, "outage_ms": 5000.0, "phases_ms": {}}],
    }
    failed = {"product": "milvus", "collections": 10**6, "ttl_s": 5, "not_loaded": "too slow"}
    facts = {"command": "python -m bench.activation", "when": "today", "machine": "small", "seconds": 1.0}
    text = report({**facts, "sides": [ours, theirs, failed]}).splitlines()
    assert text[2] == "- command: `python -m bench.activation`, today, 1 s"
    assert "- session TTL: coordd 60 s, Milvus 2.3.5 5 s" in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text if line.startswith("|")]
    assert rows[0][1:] == ["coordd, 100,000", "Milvus 2.3.5, 1,000"]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["cold start to Healthy [ms]"] == ["8,100 / 9,000 of 3", "1,250 / 1,300 of 2"]
    assert cells["switchover: outage of a client [ms]"] == ["15 / 15 of 1", "–"]
    assert cells["kill -9: new ACTIVE key to first answer [ms]"] == ["2.5 / 2.5 of 1", "900 / 900 of 1"]
    assert cells["memory of the standby, RSS [MB]"] == ["200", "200"]
    assert cells["memory of the standby after the takeovers, RSS [MB]"] == ["190", "190"]
    assert "- Milvus 2.3.5, 1,000,000: too slow" in text
    assert text[-1] == "- phases of coordd, 100,000, kill -9, median / max in ms: ready 0.5 / 0.5"
