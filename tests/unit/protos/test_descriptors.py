"""Our part of Envoy's API is Envoy's own: names, numbers, types, labels, oneofs, services."""

import dataclasses
import importlib
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from betterproto2 import FieldMetadata
from envoy_data_plane.message_pool import default_message_pool
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
)

from protos.gen import (
    envoy_core_pb2,
    envoy_type_pb2,
    external_auth_pb2,
    policy_stream_pb2,
)

FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        envoy_core_pb2,
        envoy_type_pb2,
        external_auth_pb2,
    )
]
TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


def messages(found: typing.Iterable[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        if not message.GetOptions().map_entry:
            yield message
            yield from messages(message.nested_types)


MESSAGES = [m for file in FILES for m in messages(file.message_types_by_name.values())]
ENUMS = [e for file in FILES for e in file.enum_types_by_name.values()] + [
    e for message in MESSAGES for e in message.enum_types
]
FIELDS = [field for message in MESSAGES for field in message.fields]


def envoys(message: Descriptor) -> type:
    """Envoy's own message of the same full name; a KeyError where there is none."""
    envoys_module(message.file.package)  # registers its messages
    found: type = default_message_pool.url_to_type[f"type.googleapis.com/{message.full_name}"]
    return found


def envoys_module(package: str) -> ModuleType:
    return importlib.import_module(f"envoy_data_plane.{package}")


def envoys_field(field: FieldDescriptor) -> tuple[FieldMetadata, Any]:
    """Metadata and resolved type of Envoy's own field of the same name."""
    owner = envoys(field.containing_type)
    found = {f.name: f for f in dataclasses.fields(owner)}[field.name]
    hints = typing.get_type_hints(owner, vars(importlib.import_module(owner.__module__)))
    return FieldMetadata.get(found), hints[field.name]


def leaf(hint: Any) -> Any:
    """The element type of `list[X]`, `X | None`, `dict[K, X]`."""
    inner = [a for a in typing.get_args(hint) if a is not type(None)]
    return leaf(inner[-1]) if inner else hint


def full_name_of(metadata: FieldMetadata, hint: Any) -> str:
    """Full protobuf name of the message that one of Envoy's fields holds."""
    # Python's own types stand for well-known messages; `unwrap` tells for which.
    cls = metadata.unwrap() if metadata.unwrap else leaf(hint)
    return default_message_pool.type_to_url[cls].removeprefix("type.googleapis.com/")


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def value_field(field: FieldDescriptor) -> FieldDescriptor:
    return field.message_type.fields_by_name["value"] if is_map(field) else field


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.full_name)
def test_field_is_envoys(field: FieldDescriptor) -> None:
    """Number, type, label and oneof are those of Envoy's field of that name."""
    metadata, hint = envoys_field(field)
    assert field.number == metadata.number
    assert (field.is_repeated and not is_map(field)) == bool(metadata.repeated)
    oneof = field.containing_oneof
    assert (oneof.name if oneof else None) == metadata.group
    if is_map(field):
        entry = field.message_type.fields_by_name
        assert metadata.proto_type == "map"
        assert metadata.map_meta is not None
        theirs = tuple(m.proto_type for m in metadata.map_meta)
        assert (TYPES[entry["key"].type], TYPES[entry["value"].type]) == theirs
    else:
        assert TYPES[field.type] == metadata.proto_type
    value = value_field(field)
    if value.type == FieldDescriptor.TYPE_MESSAGE:
        assert value.message_type.full_name == full_name_of(metadata, hint)
    if value.type == FieldDescriptor.TYPE_ENUM:
        assert envoys_enum(value.enum_type) is leaf(hint)


def envoys_enum(enum: EnumDescriptor) -> Any:
    """Envoy's own enum: betterproto2 writes a nested one's path without dots."""
    path = enum.full_name.removeprefix(enum.file.package).replace(".", "")
    module = vars(envoys_module(enum.file.package))
    return {name.lower(): value for name, value in module.items()}[path.lower()]


@pytest.mark.parametrize("enum", ENUMS, ids=lambda e: e.full_name)
def test_enum_values_are_envoys(enum: EnumDescriptor) -> None:
    """Every value that we declare has Envoy's number."""
    theirs = {member.name: member.value for member in envoys_enum(enum)}
    ours = {value.name: value.number for value in enum.values}
    assert ours.items() <= theirs.items()


def test_service_is_envoys() -> None:
    """The path that Envoy calls, with its cardinality and its messages."""
    ours = external_auth_pb2.DESCRIPTOR.services_by_name["Authorization"]
    rpc = ours.methods_by_name["Check"]
    theirs = envoys_module(ours.file.package).AuthorizationBase().__mapping__()
    handler = theirs[f"/{ours.full_name}/Check"]
    for side in (rpc, handler.cardinality):
        assert not any((side.client_streaming, side.server_streaming))
    assert envoys(rpc.input_type) is handler.request_type
    assert envoys(rpc.output_type) is handler.reply_type


def test_unknown_fields_survive() -> None:
    """What Envoy sends and we do not declare is still there when written again."""
    field_14_of_http = b"\x72\x03new"
    request = external_auth_pb2.AttributeContext.HttpRequest.FromString(field_14_of_http)
    assert request.SerializeToString() == field_14_of_http


def test_policy_stream_is_bidirectional() -> None:
    """Sidecar and controller both stream."""
    follow = policy_stream_pb2.DESCRIPTOR.services_by_name["PolicyStream"].methods_by_name["Follow"]
    assert follow.client_streaming
    assert follow.server_streaming
