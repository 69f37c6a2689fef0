"""The wire of a Milvus version as a set of facts, read from text or from compiled descriptors.

A fact is a pair of strings (what it is about, what holds), so that two wires are compared as sets.  The
text form, in ``facts/``, names the subject once and indents what holds; a subject holds by itself too,
for an empty message must exist as well:

    file NAME                  syntax package
    enum FULL_NAME             number name
    message FULL_NAME          number name [oneof GROUP] [repeated [packed]] type [full type name]
                               number name map key_type value_type [full type name]
    service FULL_NAME          /grpc/path input -> [stream] output

Which file declares a message is no fact: it never reaches the wire, and Milvus moved some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

Fact = tuple[str, str]

EXISTS = ""
UNPACKABLE = frozenset(
    {
        FieldDescriptorProto.TYPE_STRING,
        FieldDescriptorProto.TYPE_BYTES,
        FieldDescriptorProto.TYPE_MESSAGE,
        FieldDescriptorProto.TYPE_GROUP,
    }
)


def parse_facts(text: str) -> set[Fact]:
    """Facts in their text form; lines that begin with # are comments."""
    facts = set()
    subject = None
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if not line.startswith(" "):
            subject = line
            facts.add((subject, EXISTS))
        elif subject is None:
            raise ValueError(f"no subject above {line!r}")
        else:
            facts.add((subject, line.strip()))
    return facts


def descriptor_facts(descriptors: FileDescriptorSet) -> set[Fact]:
    """Facts of compiled files; a file's name counts without its directories."""
    facts = set()
    for file in descriptors.file:
        subject = f"file {file.name.rpartition('/')[2]}"
        facts |= {(subject, EXISTS), (subject, f"{file.syntax or 'proto2'} {file.package}")}
        for enum in file.enum_type:
            facts |= set(_enum(file.package, enum))
        for message in file.message_type:
            facts |= set(_message(file.package, message, file))
        for service in file.service:
            facts |= set(_service(file.package, service))
    return facts


def _enum(scope: str, enum: EnumDescriptorProto) -> Iterator[Fact]:
    subject = f"enum {scope}.{enum.name}"
    yield subject, EXISTS
    for value in enum.value:
        yield subject, f"{value.number} {value.name}"


def _message(scope: str, message: DescriptorProto, file: FileDescriptorProto) -> Iterator[Fact]:
    name = f"{scope}.{message.name}"
    subject = f"message {name}"
    maps = {f".{name}.{entry.name}": entry for entry in message.nested_type if entry.options.map_entry}
    yield subject, EXISTS
    for field in message.field:
        words = [str(field.number), field.name]
        if field.proto3_optional:
            words.append("optional")
        elif field.HasField("oneof_index"):
            words += ["oneof", message.oneof_decl[field.oneof_index].name]
        if entry := maps.get(field.type_name):
            words += ["map", *_type(entry.field[0]), *_type(entry.field[1])]
        else:
            words += [*_label(field, file), *_type(field)]
        yield subject, " ".join(words)
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _message(name, nested, file)
    for enum in message.enum_type:
        yield from _enum(name, enum)


def _label(field: FieldDescriptorProto, file: FileDescriptorProto) -> Iterator[str]:
    if field.label == FieldDescriptorProto.LABEL_REQUIRED:
        yield "required"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        yield "repeated"
        packed = field.options.packed if field.options.HasField("packed") else file.syntax == "proto3"
        if packed and field.type not in UNPACKABLE:
            yield "packed"


def _type(field: FieldDescriptorProto) -> Iterator[str]:
    yield FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    if field.type_name:
        yield field.type_name.removeprefix(".")


def _service(scope: str, service: ServiceDescriptorProto) -> Iterator[Fact]:
    name = f"{scope}.{service.name}"
    yield f"service {name}", EXISTS
    for method in service.method:
        yield f"service {name}", f"/{name}/{method.name} {_signature(method)}"


def _signature(method: MethodDescriptorProto) -> str:
    received = "stream " if method.client_streaming else ""
    sent = "stream " if method.server_streaming else ""
    return f"{received}{method.input_type[1:]} -> {sent}{method.output_type[1:]}"
