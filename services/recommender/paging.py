"""Page tokens: opaque to clients, and good only for the query that they were made for."""

import base64
import binascii
import hashlib
import struct

_LAYOUT = struct.Struct(">I8s")


class PageTokenError(ValueError):
    """A page token that was not made for this query."""


def encode(offset: int, query: str) -> str:
    """Make the token of the page that begins at `offset` of the query's matches."""
    return base64.urlsafe_b64encode(_LAYOUT.pack(offset, _digest(query))).decode()


def decode(token: str, query: str) -> int:
    """Give the offset in a token; 0 for the empty token, which asks for the first page.

    Raises:
        PageTokenError: the token was not made by `encode` for this query.
    """
    if not token:
        return 0
    try:
        offset, _ = _LAYOUT.unpack(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, struct.error):
        raise PageTokenError from None
    # Base64 has more than one spelling of the same bytes; only ours is a token.
    if token != encode(offset, query):
        raise PageTokenError
    return int(offset)


def _digest(query: str) -> bytes:
    return hashlib.blake2b(query.encode(), digest_size=8).digest()
