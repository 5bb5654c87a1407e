"""What all sections of settings share: the base class, and the types of single settings."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from consumer.settings.values import (
    parse_body_bytes,
    parse_bytes_or_auto,
    parse_headers,
    parse_items_or_auto,
    parse_list,
    parse_map,
    parse_member,
    parse_proxy_or_direct,
    parse_scalar_map,
    parse_seconds,
    parse_url,
    parse_url_list,
)

BytesOrAuto = Annotated[int | Literal["auto"], BeforeValidator(parse_bytes_or_auto)]
BodyBytes = Annotated[int, BeforeValidator(parse_body_bytes)]
ItemsOrAuto = Annotated[int | Literal["auto"], BeforeValidator(parse_items_or_auto)]
Scalar = str | int | float | bool
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
TextList = Annotated[list[str], BeforeValidator(parse_list)]
ScalarMap = Annotated[dict[str, Scalar], BeforeValidator(parse_scalar_map)]
TextMap = Annotated[dict[str, str], BeforeValidator(parse_map)]
ProxyUrl = Annotated[SecretStr, BeforeValidator(parse_proxy_or_direct)]
HeaderMap = Annotated[dict[str, str], BeforeValidator(parse_headers)]
Url = Annotated[str, AfterValidator(parse_url)]
UrlList = Annotated[str, AfterValidator(parse_url_list)]
MemberList = Annotated[list[Annotated[str, AfterValidator(parse_member)]], BeforeValidator(parse_list)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A group of settings. Unknown names are errors; values are frozen once loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _booleans_are_not_numbers(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise ValueError("must not be true or false")
        return value


def without_repeats(names: list[str]) -> list[str]:
    """The names. Raises ValueError if one appears twice."""
    if len(set(names)) < len(names):
        raise ValueError("must not contain duplicates")
    return names
