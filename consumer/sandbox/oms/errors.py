"""Error answers of the OMS: HTTP status, the OMS's own code, and a message."""

from enum import IntEnum


class OmsCode(IntEnum):
    """The OMS's error codes, in the field ``code`` of an error's body."""

    UNAVAILABLE = 5001
    NOT_FOUND = 5002
    BAD_REQUEST = 5003
    NOT_AUTHORISED = 5004
    NOT_ALLOWED = 5005
    SERVER_ERROR = 5006
    MISSING_REQUEST_DATA = 5011
    INVALID_ID = 5013
    INVALID_REQUEST_DATA = 5015


class RefusalError(Exception):
    """The request is refused with ``status`` and ``body()``, and nothing is queued.

    ``item`` is the index of the invalid item in the request, ``field`` the name of the invalid field.
    """

    def __init__(
        self, status: int, code: OmsCode, message: str, *, item: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.item = item
        self.field = field

    def unified_body(self) -> dict[str, object]:
        """The same by Unified Commerce, which names the kind of error in a text."""
        given = {"item": self.item, "field": self.field}
        return {
            "applicationName": "OMS sandbox",
            "errorCode": self.code.name,
            "message": str(self),
            "additionalErrorData": [
                {"name": name, "value": value} for name, value in given.items() if value is not None
            ],
        }

    def body(self) -> dict[str, object]:
        """The JSON body of the answer."""
        body: dict[str, object] = {"code": int(self.code), "message": str(self)}
        if self.item is not None:
            body["item"] = self.item
        if self.field is not None:
            body["field"] = self.field
        return body
