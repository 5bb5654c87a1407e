"""What the loop dead-letters of changes that were refused or superseded."""

import json

from consumer.core.changes.items import ChangeId, RejectReason, map_text
from consumer.core.location.request import Refusal
from consumer.loop.failed_changes import refused_changes
from consumer.ports import Assignment
from tests.support.frames import change, frame

ASSIGNED = Assignment(1, "t", 0, committed=0, metadata="", low=0, high=9, topic_id=None)


def test_an_item_is_written_with_the_columns_that_its_rows_have() -> None:
    rows = frame([change("Rome", "a", 4)]).drop("partNumber", "upc", "attributes")
    refusal = Refusal("Rome", rows, "older", RejectReason.SUPERSEDED_BY_REJECT)

    (failed,) = refused_changes(refusal, {1: ASSIGNED})

    assert failed.reason is RejectReason.SUPERSEDED_BY_REJECT
    assert json.loads(failed.items[ChangeId(1, 0)]) == {"locationName": "Rome", "sku": "a", "quantity": 4}


def test_tags_are_written_as_they_are_sent() -> None:
    tags = {"Channel": "Web", "Area": 'the "North"'}
    rows = frame([change("Rome", "a", 4, tags=map_text(tags))])

    (failed,) = refused_changes(Refusal("Rome", rows, "refused", RejectReason.REFUSED_BY_OMS), {1: ASSIGNED})

    assert json.loads(failed.items[ChangeId(1, 0)])["tags"] == tags
