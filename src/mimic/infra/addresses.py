"""Addresses that may be shown: printed, stored, sent."""

from __future__ import annotations

import re

USER = re.compile(r"//[^/?#\s]*@")  # up to the last @ before the path: a password may hold one
# A password with a bare slash is no address by the letter, and yet somebody's. What is a port and a
# path stays.
SLASHED = re.compile(r"//[^/?#\s:@]*:(?!\d+[/?#])\S*@")
GIVEN = re.compile(
    r"([?&;][\w\-.]*(?:passw|pwd|token|secret|signature|credential|api_?key|access_?key)[\w\-.]*=)"
    r"[^&;#\s]*",
    re.IGNORECASE,
)


def without_password(uri: str) -> str:
    """The address, or a text with addresses in it, without user, password, and secrets given as
    query parameters (their names stay)."""
    bare = GIVEN.sub(r"\1***", uri)
    return SLASHED.sub("//", USER.sub("//", bare))
