"""Answers that are given again as long as no table changes, for the length of a term.

Those to DescribeCollection take 3 kB each, 12 MB for all that are kept, those to ShowCollections some 100
bytes per collection. A standby has no use for them.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from coordd.meta.tables import RootCoordTables
from coordd.pb.milvus_pb2 import DescribeCollectionResponse, ShowCollectionsResponse

Answer = TypeVar("Answer", bound=Message)

MAX_KEPT_ANSWERS: Final = 4096


class AnswerCache(Generic[Answer]):
    """Answers that hold until any table changes. Bounded; whoever takes one must not modify it."""

    def __init__(self, tables: RootCoordTables) -> None:
        self._tables = tables
        self._generation = -1
        self._answers: dict[Hashable, Answer] = {}

    def get(self, question: Hashable) -> Answer | None:
        """The kept answer, if nothing has changed since."""
        if self._generation != self._tables.generation:
            self._answers.clear()
            self._generation = self._tables.generation
        return self._answers.get(question)

    def put(self, question: Hashable, answer: Answer) -> None:
        """Keep an answer made right after `get` found none."""
        if len(self._answers) >= MAX_KEPT_ANSWERS:
            self._answers.clear()
        self._answers[question] = answer

    def forget(self) -> None:
        """Keep none of them."""
        self._answers.clear()


class KeptAnswers:
    """Of one term.

    Attributes:
        described: to DescribeCollection.
        shown: to ShowCollections, by ID of the database.
    """

    def __init__(self, tables: RootCoordTables) -> None:
        self.described = AnswerCache[DescribeCollectionResponse](tables)
        self.shown = AnswerCache[ShowCollectionsResponse](tables)

    def forget(self) -> None:
        """Keep none of them."""
        self.described.forget()
        self.shown.forget()
