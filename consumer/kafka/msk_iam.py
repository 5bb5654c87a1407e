"""The token provider ``msk-iam``: tokens for AWS MSK, signed with the IAM identity of this process. An extra: ``msk``.

AWS's library finds the identity as all of its tools do: a web identity (IRSA), the identity of a container (EKS Pod
Identity, ECS) or of an instance, a profile, or AWS_* variables.
"""

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from consumer.errors import SettingsError

_BROKER: Final = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?::|,|$)")


def token(options: Mapping[str, Any]) -> tuple[str, float]:
    """See ``consumer.kafka.tokens``."""
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(
            "it needs aws-msk-iam-sasl-signer-python: pip install 'inventory-refresh[msk]', or an image with this extra"
        ) from error
    text, expires_at_ms = MSKAuthTokenProvider.generate_auth_token(region_of(options, os.environ))
    return text, expires_at_ms / 1000


def region_of(options: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """The region of the brokers: as in their names, else that AWS's tools use. Raises SettingsError. Pure."""
    if match := _BROKER.search(str(options.get("bootstrap.servers", ""))):
        return match[1]
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if not region:
        raise SettingsError("the names of the brokers do not contain a region: set the variable AWS_REGION")
    return region
