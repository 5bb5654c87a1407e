"""The schema that is bundled with the service. It is found both in an installed package and in a checkout."""

from pathlib import Path
from typing import Final

_NAME: Final = "inventory-change.avsc"
_PACKAGE: Final = Path(__file__).resolve().parent.parent


def schema_path() -> Path:
    """Path of ``inventory-change.avsc``: inside an installed package, or in ``schemas`` at the top of a checkout.

    Raises FileNotFoundError if it is in neither: the installation is broken.
    """
    folders = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")
    for folder in folders:
        if (folder / _NAME).is_file():
            return folder / _NAME
    searched = " nor ".join(str(folder) for folder in folders)
    raise FileNotFoundError(f"{_NAME} is neither in {searched}: reinstall the package")


def schema_text() -> str:
    """The bundled schema, as JSON text."""
    return schema_path().read_text(encoding="utf-8")
