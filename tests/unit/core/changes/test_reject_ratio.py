from consumer.core.changes.reject_ratio import RejectRatio


def test_few_changes_never_stop_the_service() -> None:
    assert not RejectRatio(0.5).add(999, 999)


def test_more_rejects_than_the_ratio_stop_the_service_after_a_thousand_changes() -> None:
    ratio = RejectRatio(0.5)

    assert not ratio.add(600, 500)
    assert ratio.add(400, 1)


def test_exactly_the_ratio_does_not_stop_the_service() -> None:
    assert not RejectRatio(0.5).add(1_000, 500)


def test_only_the_latest_ten_thousand_changes_count() -> None:
    ratio = RejectRatio(0.5)
    ratio.add(5_000, 2_400)
    for _ in range(10):
        ratio.add(1_000, 0)

    assert ratio.changes == 10_000
    assert ratio.rejected == 0
    assert not ratio.add(1_000, 1_000)
