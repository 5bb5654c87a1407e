import pytest

from consumer.core.partition.commit_metadata import CommitMetadata, format_metadata, parse_metadata


def test_commit_metadata_parses_back_as_it_was_formatted() -> None:
    metadata = CommitMetadata(1_234, in_doubt=True, topic_id="bXkgdG9waWM")

    assert format_metadata(metadata) == "v1;1234;1;bXkgdG9waWM"
    assert parse_metadata(format_metadata(metadata), committed=1_000) == metadata


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param("", id="missing"),
        pytest.param("consumed by another tool", id="foreign"),
        pytest.param("v2;1234;0;id", id="another version"),
        pytest.param("v1;1234;0", id="a field missing"),
        pytest.param("v1;-5;0;id", id="no offset"),
        pytest.param("v1;99999999999999999999;0;id", id="beyond 64 bits"),
        pytest.param("v1;1234;yes;id", id="open is not 0 or 1"),
        pytest.param("v1;\u0661;0;id", id="digits of another script"),
    ],
)
def test_unreadable_metadata_counts_as_in_doubt_and_read_up_to_the_committed_offset(metadata: str) -> None:
    assert parse_metadata(metadata, committed=50) == CommitMetadata(50, in_doubt=True)


def test_read_up_to_is_never_below_the_committed_offset() -> None:
    assert parse_metadata("v1;10;0;id", committed=50) == CommitMetadata(50, in_doubt=False, topic_id="id")
