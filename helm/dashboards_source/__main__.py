"""Generate the JSON of the dashboards into the chart.

``python -m helm.dashboards_source`` writes them; ``--check`` only reports stale ones (exit code 1).
"""

import sys
from pathlib import Path
from typing import Final

from helm.dashboards_source.dashboards import FILES, as_text

FOLDER: Final = Path(__file__).parents[1] / "inventory-refresh" / "dashboards"


def main(arguments: list[str]) -> int:
    """Write the stale files, or with ``--check`` report them."""
    texts = {name: as_text(make()) for name, make in FILES.items()}
    stale = [name for name, text in texts.items() if not _is_current(FOLDER / name, text)]
    if "--check" in arguments:
        print("\n".join(f"{name} is not current: run make dashboards" for name in stale), end="\n" if stale else "")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(texts[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
