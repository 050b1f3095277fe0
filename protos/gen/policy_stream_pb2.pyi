from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FollowRequest(_message.Message):
    __slots__ = ("subscription", "acknowledgement")
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGEMENT_FIELD_NUMBER: _ClassVar[int]
    subscription: Subscription
    acknowledgement: Acknowledgement
    def __init__(self, subscription: _Optional[_Union[Subscription, _Mapping]] = ..., acknowledgement: _Optional[_Union[Acknowledgement, _Mapping]] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("namespace", "name", "gateway", "revision")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    gateway: str
    revision: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ..., gateway: _Optional[str] = ..., revision: _Optional[str] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("nonce", "revision", "error")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    revision: str
    error: str
    def __init__(self, nonce: _Optional[str] = ..., revision: _Optional[str] = ..., error: _Optional[str] = ...) -> None: ...

class PolicyUpdate(_message.Message):
    __slots__ = ("nonce", "revision", "base_revision", "head", "grants", "sessions", "removed_grants", "removed_sessions", "complete")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    BASE_REVISION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_GRANTS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    nonce: str
    revision: str
    base_revision: str
    head: bytes
    grants: _containers.RepeatedScalarFieldContainer[bytes]
    sessions: _containers.RepeatedScalarFieldContainer[bytes]
    removed_grants: _containers.RepeatedCompositeFieldContainer[ObjectKey]
    removed_sessions: _containers.RepeatedCompositeFieldContainer[ObjectKey]
    complete: bool
    def __init__(self, nonce: _Optional[str] = ..., revision: _Optional[str] = ..., base_revision: _Optional[str] = ..., head: _Optional[bytes] = ..., grants: _Optional[_Iterable[bytes]] = ..., sessions: _Optional[_Iterable[bytes]] = ..., removed_grants: _Optional[_Iterable[_Union[ObjectKey, _Mapping]]] = ..., removed_sessions: _Optional[_Iterable[_Union[ObjectKey, _Mapping]]] = ..., complete: _Optional[bool] = ...) -> None: ...

class ObjectKey(_message.Message):
    __slots__ = ("namespace", "name")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    name: str
    def __init__(self, namespace: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...
