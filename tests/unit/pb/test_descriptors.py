"""coordd.pb is exactly what Milvus 2.3.5 and 2.5.24 have on the wire: nothing differs, lacks or is extra."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from wire_facts import Fact, descriptor_facts, parse_facts

import coordd.pb

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

VERSIONS = ("2.3.5", "2.5.24")

# The only facts of 2.3.5 that contradict 2.5.24. coordd.pb takes the newer form, which reads the older
# bytes: an int64 for a uint64 below 2**63, another name, a message with the same numbers and wire types.
SUPERSEDED_IN_2_3_5: dict[Fact, Fact] = {
    (subject, old): (subject, new)
    for subject, old, new in (
        ("message milvus.proto.data.CompactionPlan", "3 start_time uint64", "3 start_time int64"),
        ("message milvus.proto.index.GetJobStatsResponse", "5 task_slots int64", "5 available_slots int64"),
        (
            "message milvus.proto.data.CompactionStateResponse",
            "2 results repeated message milvus.proto.data.CompactionStateResult",
            "2 results repeated message milvus.proto.data.CompactionPlanResult",
        ),
    )
}


def fact_text(version: str) -> str:
    return Path(__file__).with_name("facts").joinpath(f"milvus-{version}.txt").read_text("utf-8")


@functools.cache
def milvus(version: str) -> frozenset[Fact]:
    superseded = SUPERSEDED_IN_2_3_5 if version == "2.3.5" else {}
    facts = parse_facts(fact_text(version))
    assert superseded.keys() <= facts
    return frozenset(superseded.get(fact, fact) for fact in facts)


def compiled() -> FileDescriptorSet:
    """The descriptors of all modules of coordd.pb, as protobuf has loaded them."""
    descriptors = FileDescriptorSet()
    for module in pkgutil.iter_modules(coordd.pb.__path__, "coordd.pb."):
        importlib.import_module(module.name).DESCRIPTOR.CopyToProto(descriptors.file.add())
    return descriptors


def missing(facts: AbstractSet[Fact], descriptors: FileDescriptorSet) -> list[Fact]:
    return sorted(facts - descriptor_facts(descriptors))


def unknown(descriptors: FileDescriptorSet) -> list[Fact]:
    return sorted(descriptor_facts(descriptors).difference(*map(milvus, VERSIONS)))


@pytest.mark.parametrize("version", VERSIONS)
def test_has_every_fact_of(version: str) -> None:
    assert missing(milvus(version), compiled()) == []


def test_has_nothing_that_neither_version_has() -> None:
    assert unknown(compiled()) == []


@pytest.mark.parametrize(("version", "least"), [("2.3.5", 2_200), ("2.5.24", 3_200)])
def test_fact_files_are_whole(version: str, least: int) -> None:
    kinds = {subject.partition(" ")[0] for subject, _ in milvus(version)}
    assert kinds == {"file", "enum", "message", "service"}
    assert len(milvus(version)) > least


class Planted:
    """Finds the descriptor to spoil by package and name (worker.proto shares its package: left out)."""

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        self.files = {
            file.package: file for file in descriptors.file if not file.name.endswith("worker.proto")
        }

    def message(self, package: str, name: str) -> DescriptorProto:
        return next(m for m in self.files[package].message_type if m.name == name)

    def field(self, package: str, message: str, name: str) -> FieldDescriptorProto:
        return next(f for f in self.message(package, message).field if f.name == name)

    def enum(self, package: str, name: str) -> EnumDescriptorProto:
        return next(e for e in self.files[package].enum_type if e.name == name)

    def service(self, package: str, name: str) -> ServiceDescriptorProto:
        return next(s for s in self.files[package].service if s.name == name)


COMMON, SCHEMA, QUERY = "milvus.proto.common", "milvus.proto.schema", "milvus.proto.query"

MISMATCHES: dict[str, Callable[[Planted], object]] = {
    "number": lambda p: setattr(p.field(COMMON, "Status", "code"), "number", 33),
    "name": lambda p: setattr(p.field(COMMON, "Status", "code"), "name", "kode"),
    "type": lambda p: setattr(p.field(COMMON, "Status", "code"), "type", FieldDescriptorProto.TYPE_INT64),
    "label": lambda p: setattr(
        p.field(COMMON, "Status", "code"), "label", FieldDescriptorProto.LABEL_REPEATED
    ),
    "presence": lambda p: setattr(p.field(COMMON, "Status", "code"), "proto3_optional", True),
    "type name": lambda p: setattr(p.field(SCHEMA, "FieldSchema", "data_type"), "type_name", ".milvus.X"),
    "oneof left": lambda p: p.field(SCHEMA, "FieldData", "scalars").ClearField("oneof_index"),
    "oneof name": lambda p: setattr(p.message(SCHEMA, "FieldData").oneof_decl[0], "name", "fields"),
    "packed": lambda p: setattr(p.field(SCHEMA, "LongArray", "data").options, "packed", False),
    "map key": lambda p: setattr(
        p.message(COMMON, "MsgBase").nested_type[0].field[0], "type", FieldDescriptorProto.TYPE_INT64
    ),
    "map value": lambda p: setattr(
        p.message(COMMON, "MsgBase").nested_type[0].field[1], "type", FieldDescriptorProto.TYPE_BYTES
    ),
    "no field": lambda p: p.message(COMMON, "Status").field.pop(),
    "no message": lambda p: p.files[COMMON].message_type.pop(),
    "enum value": lambda p: setattr(p.enum(COMMON, "ErrorCode").value[1], "number", 1000),
    "enum name": lambda p: setattr(p.enum(COMMON, "ErrorCode").value[1], "name", "Unexpected"),
    "no enum": lambda p: p.files[COMMON].enum_type.pop(),
    "package": lambda p: setattr(p.files["milvus.proto.rg"], "package", "milvus.proto.resource"),
    "syntax": lambda p: setattr(p.files["milvus.proto.rg"], "syntax", "proto2"),
    "method path": lambda p: setattr(p.service(QUERY, "QueryNode").method[0], "name", "GetStates"),
    "method input": lambda p: setattr(p.service(QUERY, "QueryNode").method[0], "input_type", ".milvus.X"),
    "method output": lambda p: setattr(p.service(QUERY, "QueryNode").method[0], "output_type", ".milvus.X"),
    "streaming": lambda p: setattr(p.service(QUERY, "QueryNode").method[0], "server_streaming", True),
    "client streaming": lambda p: setattr(p.service(QUERY, "QueryNode").method[0], "client_streaming", True),
    "no service": lambda p: p.files[QUERY].service.pop(),
}


@pytest.mark.parametrize("plant", MISMATCHES.values(), ids=MISMATCHES.keys())
def test_finds_a_planted_mismatch(plant: Callable[[Planted], object]) -> None:
    descriptors = compiled()
    plant(Planted(descriptors))
    assert missing(milvus("2.5.24"), descriptors)


@pytest.mark.parametrize(
    ("subject", "holds", "changed"),
    [
        ("message milvus.proto.common.Status", "3 code int32", "30 code int32"),
        ("message milvus.proto.common.Status", "3 code int32", "3 code int64"),
        ("message milvus.proto.schema.LongArray", "1 data repeated packed int64", "1 data repeated int64"),
        ("enum milvus.proto.common.MsgType", "100 CreateCollection", "101 CreateCollection"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_names_exactly_the_fact_that_was_changed(
    version: str, subject: str, holds: str, changed: str
) -> None:
    head, found, tail = fact_text(version).partition(f"{subject}\n")
    assert found
    assert f"  {holds}\n" in tail
    spoiled = parse_facts(head + found + tail.replace(f"  {holds}\n", f"  {changed}\n", 1))
    assert missing(spoiled - SUPERSEDED_IN_2_3_5.keys(), compiled()) == [(subject, changed)]


def test_finds_an_extra_field() -> None:
    descriptors = compiled()
    Planted(descriptors).message(COMMON, "Status").field.add(name="extra", number=99, type="TYPE_INT64")
    assert unknown(descriptors) == [("message milvus.proto.common.Status", "99 extra int64")]


def test_facts_need_a_subject() -> None:
    with pytest.raises(ValueError, match="no subject"):
        parse_facts("  1 base message milvus.proto.common.MsgBase\n")
