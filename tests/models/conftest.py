"""Tiny models gain nothing from a second thread, and on a busy machine lose much by waiting for
it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def always_one_thread(one_thread: None) -> None:
    """In every file of this folder."""
