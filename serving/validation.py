"""Turns protobuf requests into typed request models, and their errors into field violations."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Annotated, Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from serving.errors import FieldViolation, invalid_argument
from serving.oneofs import conflicting_oneofs, holds_oneofs

Model = TypeVar("Model", bound="RequestModel")
Request = TypeVar("Request", bound=Message)

MAX_VIOLATIONS = 20

LONGEST_ID = 200
"""Characters of an id."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID)]


class RequestModel(BaseModel):
    """A request that has been checked; its fields are named as in the proto.

    A field that the client did not set takes the model's default.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


def parse(raw: bytes, message_class: type[Request]) -> Request:
    """Read a frame.

    Raises:
        RpcError: INVALID_ARGUMENT when the frame is no message of the class, holds a string that is
            not UTF-8, or sets several members of a oneof.
    """
    try:
        message = message_class.FromString(raw)
    except Exception as error:  # protobuf's DecodeError, and what its C core raises for bad UTF-8
        name = message_class.DESCRIPTOR.full_name
        problem = f"the frame is not a valid {name}, or a string in it is not UTF-8"
        raise invalid_argument([FieldViolation("", problem)]) from error
    conflicts = conflicting_oneofs(raw, message_class.DESCRIPTOR)
    if conflicts:
        raise invalid_argument(
            [FieldViolation(path, "set exactly one member, not several") for path in conflicts]
        )
    return message


def validate(model: type[Model], message: Message) -> Model:
    """Check a message against a request model.

    Raises:
        RpcError: INVALID_ARGUMENT with one violation for each field that cannot be used, the first
            `MAX_VIOLATIONS` of them.
    """
    if holds_oneofs(message.DESCRIPTOR):
        missing = list(_missing_oneofs(message, ""))
        if missing:
            raise invalid_argument(missing[:MAX_VIOLATIONS])
    try:
        return model.model_validate(_fields(message))
    except ValidationError as error:
        violations = [
            FieldViolation(_path(item["loc"]), _problem(item))
            for item in error.errors(include_url=False, include_input=False)
        ]
        raise invalid_argument(violations[:MAX_VIOLATIONS]) from None


def check_answer(size: int, most: int, path: str, advice: str) -> None:
    """Refuse a request whose answer is larger than the server sends.

    Args:
        size: Bytes that the answer has at least.
        most: Bytes that the server sends at most.
        path: The field that makes it large.
        advice: What the client is to do.

    Raises:
        RpcError: INVALID_ARGUMENT.
    """
    if size > most:
        problem = f"makes an answer of at least {size:,} bytes, more than {most:,}; {advice}"
        raise invalid_argument([FieldViolation(path, problem)])


def _fields(message: Message) -> dict[str, Any]:
    """The fields that are set, by name."""
    fields = {}
    for field, value in message.ListFields():
        name, read = _reader(field)
        fields[name] = read(value) if read else value
    return fields


@cache
def _reader(field: FieldDescriptor) -> tuple[str, Callable[[Any], Any] | None]:
    """A field's name, which protobuf makes anew each time, and what turns its value into Python."""
    if field.message_type is None:
        return field.name, list if field.is_repeated else None
    return field.name, _all_fields if field.is_repeated else _fields


def _all_fields(messages: Iterable[Message]) -> list[dict[str, Any]]:
    return [_fields(message) for message in messages]


def _missing_oneofs(message: Message, prefix: str) -> Iterator[FieldViolation]:
    """Oneofs of which nothing is set; every oneof of our requests is required."""
    for name, members in _oneofs(message.DESCRIPTOR):
        if message.WhichOneof(name) is None:
            yield FieldViolation(f"{prefix}{name}", f"set exactly one of {', '.join(members)}")
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        items = [(field.name, value)]
        if field.is_repeated:
            items = [(f"{field.name}[{index}]", item) for index, item in enumerate(value)]
        for place, item in items:
            yield from _missing_oneofs(item, f"{prefix}{place}.")


def _oneofs(descriptor: Any) -> list[tuple[str, list[str]]]:
    """The oneofs and their members, leaving out the synthetic ones that stand for `optional`."""
    return [
        (oneof.name, [field.name for field in oneof.fields])
        for oneof in descriptor.oneofs
        if len(oneof.fields) > 1
    ]


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _problem(item: Any) -> str:
    if item["type"] == "missing":
        return "must be set"
    message = str(item["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
