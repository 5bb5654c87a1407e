"""Business rules that the consumer cannot know: finds the first item of a request that a ``refuse`` fault covers."""

from collections.abc import Container, Iterable, Sequence
from typing import Any

from consumer.sandbox.oms.errors import OmsCode, RefusalError
from consumer.sandbox.oms.faults.rules import Refuse
from consumer.sandbox.oms.validation import IDENTIFIERS, Item


class ItemRefusals:
    """One ``refuse`` fault, prepared for searching thousands of items."""

    def __init__(self, rule: Refuse) -> None:
        self._named = rule.named
        self._items = frozenset(rule.item)
        self._prefixes = rule.prefix
        self._quantities = frozenset(rule.quantity)

    def find(self, items: Iterable[Item]) -> RefusalError | None:
        """The refusal (400, code 5015) of the first refused item; None if every item is accepted."""
        for index, item in enumerate(items):
            field = self._refused_field(item)
            if field is None:
                continue
            if not self._named:
                return RefusalError(400, OmsCode.INVALID_REQUEST_DATA, "invalid request data")
            message = f"items[{index}].{field} is refused by a rule of this OMS"
            return RefusalError(400, OmsCode.INVALID_REQUEST_DATA, message, item=index, field=field)
        return None

    def find_all(self, items: Sequence[Any], *, except_for: Container[int]) -> dict[int, str]:
        """By position, why items are refused, except for those positions."""
        found: dict[int, str] = {}
        for index, item in enumerate(items):
            refusal = None if index in except_for else self.find([item])
            if refusal is not None:
                found[index] = str(refusal).replace("items[0]", f"items[{index}]")
        return found

    def _refused_field(self, item: Item) -> str | None:
        for name in IDENTIFIERS:
            value = item.get(name)
            if isinstance(value, str) and (value in self._items or value.startswith(self._prefixes)):
                return name
        return "quantity" if self._quantities and int(item["quantity"]) in self._quantities else None
