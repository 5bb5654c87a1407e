from consumer.core.oms.request_size import RequestSize


def test_the_limit_is_searched_for_between_accepted_and_too_large() -> None:
    size = RequestSize()
    size.on_accepted(600_000)

    size.on_too_large(1_100_000)
    assert size.bytes_max == 600_000

    size.on_too_large(500_000)  # what was accepted before no longer is
    assert size.bytes_max == 250_000

    size.on_accepted(100_000)
    size.on_too_large(240_000)
    assert size.bytes_max == 120_000


def test_a_learned_limit_is_never_above_the_configured_one_nor_below_what_is_credible() -> None:
    size = RequestSize(10_000, 10_000, credible_bytes_min=4_096)

    size.on_too_large(30_000)
    assert size.bytes_max == 10_000
    size.on_too_large(5_000)
    assert size.bytes_max == 4_096
    assert not size.is_credible(4_096)


def test_what_cannot_shrink_is_tried_up_to_the_configured_limit() -> None:
    size = RequestSize(10_000, 10_000)
    size.on_too_large(12_000)

    assert (size.bytes_max_for(can_shrink=True), size.bytes_max_for(can_shrink=False)) == (6_000, 10_000)
    assert RequestSize().bytes_max_for(can_shrink=False) is None
