"""Skip a test whose external dependency is missing, or fail it in CI."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.support.keeper import PartMissingError

Part = TypeVar("Part")


def or_skip(part: Callable[[], Part]) -> Part:
    """Return ``part()``. If it is not available on this machine, skip the test; with ``CI=true``, fail it."""
    try:
        return part()
    except PartMissingError as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(f"a dependency is missing, and CI=true requires it: {missing}")
        pytest.skip(str(missing))
