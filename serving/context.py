"""What belongs to the request at hand, and goes along to the services behind."""

import re
import uuid
from collections.abc import Iterable
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"

# What a log line may safely hold; anything else is replaced by an id of our own.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """Id of the request that this task serves; empty outside of one."""
    return _request_id.get()


def adopt_request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Take the caller's request id, or make one, for the task at hand."""
    given = next((value for key, value in metadata if key == REQUEST_ID_KEY), "")
    text = given if isinstance(given, str) else ""
    request_id = text if _ACCEPTABLE.fullmatch(text) else uuid.uuid4().hex
    _request_id.set(request_id)
    return request_id


def outgoing_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata for a call to a service behind this one."""
    request_id = current_request_id()
    return ((REQUEST_ID_KEY, request_id),) if request_id else ()
