"""The schema that comes with the service, found in an installed package and in a checkout alike."""

from pathlib import Path
from typing import Final

_NAME: Final = "inventory-change.avsc"
_PACKAGE: Final = Path(__file__).resolve().parent.parent


def schema_path() -> Path:
    """Where ``inventory-change.avsc`` is: inside an installed package, or in the top-level ``schemas`` of a checkout.

    Raises FileNotFoundError where neither has it: the installation is broken.
    """
    places = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")
    for place in places:
        if (place / _NAME).is_file():
            return place / _NAME
    looked = " nor ".join(str(place) for place in places)
    raise FileNotFoundError(f"{_NAME} is neither in {looked}: install the package again")


def schema_text() -> str:
    """The bundled schema, as JSON text."""
    return schema_path().read_text(encoding="utf-8")
