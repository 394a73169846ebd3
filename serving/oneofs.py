"""Finds oneofs that a frame sets more than once.

A protobuf parser keeps the last member of a oneof and drops the others in silence, so a client that
sets two would be answered for one of them. The wire still shows both.
"""

from functools import cache
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

_LENGTH_DELIMITED = 2


def conflicting_oneofs(raw: bytes, descriptor: Any) -> list[str]:
    """Paths of the oneofs of which `raw`, a valid frame of `descriptor`, sets several members."""
    if not holds_oneofs(descriptor):
        return []
    return list(_conflicts(raw, descriptor, ""))


@cache
def holds_oneofs(descriptor: Any) -> bool:
    """Whether a message of `descriptor` has a oneof, or holds messages that have one."""
    return any(_real_oneof(field) for field in descriptor.fields) or any(
        holds_oneofs(field.message_type)
        for field in descriptor.fields
        if field.message_type is not None and field.message_type is not descriptor
    )


def _real_oneof(field: Any) -> str | None:
    """The field's oneof, leaving out the synthetic one that stands for `optional`."""
    oneof = field.containing_oneof
    return None if oneof is None or len(oneof.fields) == 1 else str(oneof.name)


def _conflicts(raw: bytes, descriptor: Any, prefix: str) -> list[str]:
    found: list[str] = []
    members: dict[str, int] = {}
    counts: dict[int, int] = {}
    unknown_fields = UnknownFieldSet(Empty.FromString(raw))
    for unknown in map(unknown_fields.__getitem__, range(len(unknown_fields))):
        field = descriptor.fields_by_number.get(unknown.field_number)
        if field is None:
            continue
        oneof = _real_oneof(field)
        if oneof and members.setdefault(oneof, field.number) != field.number:
            path = f"{prefix}{oneof}"
            found += [path] if path not in found else []
        index = counts[field.number] = counts.get(field.number, -1) + 1
        if unknown.wire_type == _LENGTH_DELIMITED and field.message_type is not None:
            place = f"{field.name}[{index}]" if field.is_repeated else field.name
            if holds_oneofs(field.message_type):
                found += _conflicts(unknown.data, field.message_type, f"{prefix}{place}.")
    return found
