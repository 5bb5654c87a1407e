"""What a test does where a part of its world is missing."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.support.keeper import PartMissingError

Part = TypeVar("Part")


def or_skip(part: Callable[[], Part]) -> Part:
    """Skip where a part cannot be had on this machine; where every part must be there (CI=true), fail."""
    try:
        return part()
    except PartMissingError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, and a part is missing: {missing}")
        pytest.skip(str(missing))
