"""What fault rules have in common: when they are active, the types of their parameters, and limits."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from consumer.sandbox.oms.faults.outcome import CallKind

RULES_MAX: Final = 100
"""Rules in force at once; every call checks each of them."""
DELAY_SECONDS_MAX: Final = 3_600.0
"""The longest delay of a call by one fault."""
RULE_SECONDS_MAX: Final = 604_800.0
"""A week: longer than any experiment with a sandbox."""
RETRY_AFTER_SECONDS_MAX: Final = 86_400
LIMIT_CALLS_MAX: Final = 100_000
"""A limit keeps the time of each call it let through."""
NO_BODY_STATUSES: Final = (204, 304)

VALUES_MAX: Final = 10_000
"""Entries of a list, such as item identifiers."""
TEXT_CHARACTERS_MAX: Final = 100_000


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


OneOrMore = BeforeValidator(_as_list)
"""A list with one entry may be written as that entry."""
Text = Annotated[str, Field(min_length=1, max_length=1_000)]
Texts = Annotated[tuple[Text, ...], OneOrMore, Field(max_length=VALUES_MAX)]
Calls = Annotated[tuple[CallKind, ...], OneOrMore, Field(min_length=1, max_length=3)]
DelaySeconds = Annotated[float, Field(ge=0, le=DELAY_SECONDS_MAX, allow_inf_nan=False)]
RetryAfter = Annotated[int, Field(ge=0, le=RETRY_AFTER_SECONDS_MAX)]
Messages = Annotated[tuple[Text, ...], OneOrMore, Field(max_length=100)]


class Rule(BaseModel):
    """What all fault rules have in common: when they are active."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    fault: str
    begin: float = Field(default=0, ge=0, le=RULE_SECONDS_MAX, allow_inf_nan=False)
    """Seconds from when the rule is added (on the command line: from the start) until it becomes active."""
    duration: float | None = Field(default=None, gt=0, le=RULE_SECONDS_MAX, allow_inf_nan=False)
    """Seconds for which the rule is active; None: until it is removed."""

    def is_active(self, age_seconds: float) -> bool:
        """True if the rule is active ``age_seconds`` after it was added."""
        return self.begin <= age_seconds and (self.duration is None or age_seconds < self.begin + self.duration)
