"""Answers to DescribeCollection that are given again, for the length of a term.

They take 3 kB each, 12 MB for all that are kept; a standby has no use for them.
"""

from collections.abc import Hashable

from coordd.meta.tables import RootCoordTables
from coordd.pb.milvus_pb2 import DescribeCollectionResponse

MAX_KEPT_ANSWERS = 4096


class AnswerCache:
    """Answers that hold until any table changes. Bounded; whoever takes one must not modify it."""

    def __init__(self, tables: RootCoordTables) -> None:
        self._tables = tables
        self._generation = -1
        self._answers: dict[Hashable, DescribeCollectionResponse] = {}

    def get(self, question: Hashable) -> DescribeCollectionResponse | None:
        """The kept answer, if nothing has changed since."""
        if self._generation != self._tables.generation:
            self._answers.clear()
            self._generation = self._tables.generation
        return self._answers.get(question)

    def put(self, question: Hashable, answer: DescribeCollectionResponse) -> None:
        """Keep an answer made right after `get` found none."""
        if len(self._answers) >= MAX_KEPT_ANSWERS:
            self._answers.clear()
        self._answers[question] = answer

    def forget(self) -> None:
        """Keep none of them."""
        self._answers.clear()
