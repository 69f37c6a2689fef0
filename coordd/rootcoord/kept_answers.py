"""Answers that are given again as long as no table changes, for the length of a term.

A message takes up more memory than bytes on the wire, by which it is measured here: one to DescribeCollection
up to ten times as much (2.5 kB with 4 fields, 20 kB with 64), so 40 MB for all that are kept; one to
ShowCollections about as much, some 40 bytes per collection. A standby has no use for them.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

from coordd.meta.tables import RootCoordTables
from coordd.pb.milvus_pb2 import DescribeCollectionResponse, ShowCollectionsResponse

Answer = TypeVar("Answer", bound=Message)

MAX_KEPT_ANSWERS: Final = 4096
MAX_DESCRIBED_BYTES: Final = 4 << 20
MAX_SHOWN_BYTES: Final = 64 << 20
"""A list of 100,000 collections takes 4 MB; there is one list for each database."""


class AnswerCache(Generic[Answer]):
    """Answers that hold until any table changes. Whoever takes one must not modify it.

    Bounded: `MAX_KEPT_ANSWERS`, and `max_bytes` as they are on the wire.
    """

    def __init__(self, tables: RootCoordTables, *, max_bytes: int) -> None:
        self._tables = tables
        self._max_bytes = max_bytes
        self._generation = -1
        self._bytes = 0
        self._answers: dict[Hashable, Answer] = {}

    def get(self, question: Hashable) -> Answer | None:
        """The kept answer, if nothing has changed since."""
        if self._generation != self._tables.generation:
            self.forget()
            self._generation = self._tables.generation
        return self._answers.get(question)

    def put(self, question: Hashable, answer: Answer) -> None:
        """Keep an answer made right after `get` found none, unless it is too large; others may have to go."""
        size = answer.ByteSize()
        if size > self._max_bytes:
            return
        if len(self._answers) >= MAX_KEPT_ANSWERS or self._bytes + size > self._max_bytes:
            self.forget()
        self._answers[question] = answer
        self._bytes += size

    def forget(self) -> None:
        """Keep none of them."""
        self._answers.clear()
        self._bytes = 0


class KeptAnswers:
    """Of one term.

    Attributes:
        described: to DescribeCollection.
        shown: to ShowCollections, by ID of the database.
    """

    def __init__(self, tables: RootCoordTables) -> None:
        self.described = AnswerCache[DescribeCollectionResponse](tables, max_bytes=MAX_DESCRIBED_BYTES)
        self.shown = AnswerCache[ShowCollectionsResponse](tables, max_bytes=MAX_SHOWN_BYTES)

    def forget(self) -> None:
        """Keep none of them."""
        self.described.forget()
        self.shown.forget()
