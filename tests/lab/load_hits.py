"""Rows whose neighbours are known beforehand, and what a search among them must find.

Used by load_driver.py in the pymilvus environment too, so it imports nothing of the project.
"""

DIM = 8
BASE = 16
HITS = 3


def vector(key: int) -> list[float]:
    """The digits of the key: small numbers, so that distances are exact, and no two keys have the same."""
    return [float(key // BASE**place % BASE) for place in range(DIM)]


def distance(one: int, other: int) -> float:
    """Between the vectors of two keys, squared, as Milvus has it."""
    return sum((a - b) ** 2 for a, b in zip(vector(one), vector(other), strict=True))


def neighbours(key: int) -> set[int]:
    """The keys at a distance of 1, which is the least there is between two: one digit is one more or less."""
    steps = {key + sign * BASE**place for place in range(DIM) for sign in (-1, 1)}
    return {other for other in steps if other >= 0 and distance(key, other) == 1}


def judge_hits(key: int, hits: list[tuple[int, float]], there: set[int], below: int) -> str:
    """What is wrong with the nearest of a row, which are pairs of key and distance; "" if nothing is.

    `there`: those of its neighbours that must be there. `below`: the keys that may be there.
    """
    ids, distances = [one for one, _ in hits], [found for _, found in hits]
    least = [0.0, *[1.0] * len(there)][:HITS]
    right = (
        len(set(ids)) == len(ids) == HITS
        and all(0 <= one < below for one in ids)
        and distances == [distance(key, one) for one in ids] == sorted(distances)
        and distances[: len(least)] == least
    )
    return "" if right else f"search for {key}: {hits}, there were {sorted(there)}"
