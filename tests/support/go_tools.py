"""helm, built from its Go module once into .build/go-bin."""

import os
import subprocess
from functools import cache
from pathlib import Path

from tests.support.services import BUILD, PartMissingError

HELM = "helm.sh/helm/v3/cmd/helm@v3.19.0"
BUILD_SECONDS_MAX = 1_200.0


@cache
def helm() -> Path:
    """The command ``helm``. Raises PartMissingError."""
    binary = BUILD / "go-bin" / "helm"
    if not binary.exists():
        try:
            subprocess.run(  # noqa: S603 - a module of ours
                ["go", "install", HELM],  # noqa: S607 - found on the path
                env=os.environ | {"GOBIN": str(binary.parent)},
                check=True,
                timeout=BUILD_SECONDS_MAX,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise PartMissingError(f"helm could not be built: {error}; install Go 1.24 or newer") from error
    return binary
