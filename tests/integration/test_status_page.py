"""The status page in a real Chromium: what people see, click and type."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from prometheus_client import CollectorRegistry

from consumer.core.location.location import LocationState
from consumer.core.oms.breaker import BreakerState
from consumer.observe.members import MemberFinder
from tests.support.browser import DESKTOP, PHONE, chromium_path, running_browser, violations
from tests.support.frames import change
from tests.support.parts import or_skip
from tests.support.status_server import running_status_server
from tests.support.status_story import STORES, Story, store
from tests.support.traces import TracedEngine, story_of_an_item

pytestmark = pytest.mark.integration

UPDATE = "#as-of"
QUARTER = 900.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    or_skip(chromium_path)
    with running_browser() as browser:
        yield browser


@pytest.fixture
def story() -> Story:
    story = Story()
    story.send_requests()
    story.wait(QUARTER)
    return story


@pytest.fixture
def url(story: Story) -> Iterator[str]:
    with running_status_server(story.board, CollectorRegistry()) as server:
        yield server.url


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    yield from opened(browser, url, DESKTOP)


@pytest.fixture
def phone(browser: Browser, url: str) -> Iterator[Page]:
    yield from opened(browser, url, PHONE)


def opened(browser: Browser, url: str, viewport: dict[str, int]) -> Iterator[Page]:
    """The page; what its console says is a failure."""
    context = browser.new_context(viewport=viewport, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    assert [line for line in said if "net::ERR_INTERNET_DISCONNECTED" not in line] == []


def wait_for_update(story: Story, page: Page) -> None:
    """Wait until the page has fetched itself again."""
    before = page.locator(UPDATE).inner_text()
    story.clock.now += 2
    story.happen()
    expect(page.locator(UPDATE)).not_to_have_text(before)


def first_location(page: Page) -> str:
    return page.locator("#location-rows tr").first.locator("th").inner_text()


def test_locations_are_found_while_typing_and_the_search_keeps_focus_and_text(page: Page, story: Story) -> None:
    page.get_by_label("Search by name").press_sequentially("STORE 01")
    rows = page.locator("#location-rows tr")
    expect(rows).to_have_count(10)  # 010 to 019
    assert {row.split("\t")[0] for row in rows.locator("th").all_inner_texts()} == {store(n) for n in range(10, 20)}

    wait_for_update(story, page)
    expect(page.get_by_label("Search by name")).to_be_focused()
    expect(page.get_by_label("Search by name")).to_have_value("STORE 01")
    expect(rows).to_have_count(10)

    page.get_by_label("Search by name").fill("nowhere")
    expect(page.locator("#found")).to_have_text("No location matches")


def test_a_click_on_a_title_sorts_and_a_second_one_turns_the_order(page: Page, story: Story) -> None:
    assert first_location(page) == store(STORES)  # the oldest change
    page.get_by_role("link", name="Location", exact=True).click()
    expect(page.get_by_role("columnheader", name="Location").first).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("#location-rows tr").first.locator("th")).to_have_text(store(1))

    page.locator("#sort-name").press("Enter")
    expect(page.locator("#location-rows tr").first.locator("th")).to_have_text(store(STORES))
    expect(page.locator("#sort-name")).to_be_focused()
    wait_for_update(story, page)
    expect(page.locator("#sort-name")).to_be_focused()
    assert first_location(page) == store(STORES)


def test_many_locations_come_in_pages(page: Page) -> None:
    expect(page.locator("#found")).to_have_text(f"1 to 50 of {STORES}")
    page.get_by_role("link", name="Next 50").click()
    expect(page.locator("#found")).to_have_text(f"51 to 100 of {STORES}")
    page.get_by_role("link", name="Next 50").click()
    expect(page.locator("#found")).to_have_text(f"101 to {STORES} of {STORES}")
    expect(page.get_by_role("link", name="Next 50")).to_have_count(0)
    page.get_by_role("link", name="Previous 50").click()
    expect(page.locator("#found")).to_have_text(f"51 to 100 of {STORES}")


def test_a_fault_appears_and_goes_without_a_reload(page: Page, story: Story) -> None:
    health = page.locator("#health")
    expect(health).to_have_text(re.compile("^All is well: "))
    page.evaluate("window.notReloaded = true")

    story.go_wrong()
    story.happen(breaker=BreakerState.OPEN, oms_consecutive_failures=4, state=LocationState.BACKING_OFF)
    expect(health).to_have_text(re.compile("^OMS unavailable: requests are paused"))
    expect(health).to_have_class("health waiting")
    expect(page.locator("#waits")).to_contain_text("the last request failed; the next try is in")
    expect(page.locator("#problems")).to_contain_text(
        "refused by the OMS: 14 changes of Store 021, latest 4 minutes ago: HTTP 400: upc B-1 is not known"
    )
    expect(page.locator("#problems")).to_contain_text("OMS unavailable: 4 requests")
    expect(page.locator("#problems")).to_contain_text("rejected (no quantity): 3 changes")

    story.happen()
    expect(health).to_have_text(re.compile("^All is well: "))
    assert page.evaluate("window.notReloaded")


def test_a_process_that_no_longer_answers_is_seen_and_seen_to_be_back(page: Page, story: Story) -> None:
    expect(page.locator("#stale")).to_be_hidden()
    page.context.set_offline(offline=True)
    expect(page.locator("#stale")).to_contain_text("the process does not answer")
    page.context.set_offline(offline=False)
    expect(page.locator("#stale")).to_be_hidden()


def test_an_update_keeps_the_place_on_the_page(page: Page, story: Story) -> None:
    row = page.locator("#location-rows tr").nth(20)
    row.scroll_into_view_if_needed()
    before = row.bounding_box()
    assert before
    story.go_wrong()  # more lines above
    story.happen(breaker=BreakerState.OPEN)
    expect(page.locator("#problems li")).to_have_count(4)
    wait_for_update(story, page)
    after = row.bounding_box()
    assert after
    assert abs(after["y"] - before["y"]) < 5


def test_the_health_line_says_how_long_catching_up_takes(page: Page, story: Story) -> None:
    story.lag = 2_700_000
    story.wait(300, read_per_second=5_000)
    expect(page.locator("#health")).to_have_text("Catching up: 1.2 M changes, about 4 minutes at this rate")


def test_a_phone_shows_everything_without_scrolling_sideways(phone: Page, story: Story) -> None:
    story.go_wrong()
    story.happen()
    expect(phone.locator("#problems li")).to_have_count(4)
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    phone.get_by_label("Search by name").fill("Store 007")
    expect(phone.locator("#location-rows tr")).to_have_count(1)
    expect(phone.locator("#location-rows")).to_contain_text("in 5 minutes, or when full")
    phone.get_by_role("link", name="Items").click()
    expect(phone.locator("#found")).to_have_text("1 to 1 of 1")


def test_the_latest_requests_and_the_partitions_are_listed(page: Page, story: Story) -> None:
    requests = page.locator("#request-rows tr")
    expect(requests).to_have_count(20)
    expect(requests.first).to_contain_text("Store 120")
    expect(requests.first).to_contain_text("accepted after 0.3 s")
    expect(requests.nth(1)).to_contain_text("job 7119: applied")
    partitions = page.locator("#partition-rows tr")
    expect(partitions).to_have_count(2)
    assert partitions.first.inner_text().split("\t") == ["stock[0]", "reading", "35,900", "36,000", "38,500", "38,500"]


def test_all_members_are_linked_and_this_one_is_marked(page: Page, story: Story, url: str) -> None:
    expect(page.locator("#member-list")).to_have_count(0)  # http.members is not set
    small = Story(stores=2)
    small.happen()
    with running_status_server(small.board, CollectorRegistry()) as other:
        story.board.members = MemberFinder(
            [url.removeprefix("http://"), other.url.removeprefix("http://"), "x.invalid:1"]
        )
        page.reload()
        assert violations(page) == []
        page.get_by_role("link", name="Members").click()
        expect(page.locator("#members")).to_be_focused()
        shown = page.locator("#member-list li")
        expect(shown).to_have_count(3)
        expect(shown.nth(0)).to_have_text(f"{url}, this page")
        expect(shown.nth(0).get_by_role("link")).to_have_count(0)
        expect(shown.nth(2)).to_contain_text("x.invalid:1: ")
        shown.nth(1).get_by_role("link", name=other.url).click()
        page.wait_for_url(f"{other.url}/")
        expect(page.locator("#found")).to_have_text("1 to 2 of 2")
        page.goto("about:blank")  # its connections are closed before the server stops


def test_members_come_and_go_without_a_reload(browser: Browser, story: Story) -> None:
    story.board.members = MemberFinder(["127.0.0.1:1", "127.0.0.1:2"])
    with running_status_server(story.board, CollectorRegistry()) as server:
        for page in opened(browser, server.url, PHONE):
            expect(page.locator("#member-list li")).to_have_count(2)
            assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
            story.board.members = MemberFinder(["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"])
            expect(page.locator("#member-list li")).to_have_count(3)
            expect(page.locator("#member-list")).not_to_contain_text("127.0.0.1:1")


def test_the_charts_are_drawn_and_say_their_latest_values(page: Page) -> None:
    expect(page.locator("#chart-changes canvas")).to_be_visible()
    label = page.locator("#chart-rates").get_attribute("aria-label")
    assert label
    assert re.fullmatch(r"Chart of the last 15 minutes; now read: [6-9]\d\d, accepted: 0", label)


def test_the_page_is_used_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the locations")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Search by name")).to_be_focused()
    page.keyboard.type("Store 003")
    page.keyboard.press("Enter")
    expect(page.locator("#location-rows tr")).to_have_count(1)


@pytest.fixture
def item(story: Story) -> Iterator[TracedEngine]:
    """Item B-1 of Rome, about which the loop answers."""
    traced = story_of_an_item(story.board.questions, story.clock)
    with traced.answering():
        yield traced


def find(page: Page, location: str, item: str) -> None:
    page.get_by_label("Location", exact=True).fill(location)
    page.get_by_label("Part number, UPC or SKU").fill(item)
    page.get_by_label("Part number, UPC or SKU").press("Enter")


def test_an_item_is_found_in_place_and_its_fate_is_kept_up_to_date(
    page: Page, story: Story, item: TracedEngine
) -> None:
    page.evaluate("window.notReloaded = true")
    find(page, "Rome", "B-1")
    changes = page.locator("#trace li")
    expect(changes).to_have_count(5)
    expect(changes.nth(2)).to_contain_text("stock[0], offset 12: in request 0123456789-3, which the OMS has not")
    expect(changes.nth(3)).to_contain_text(
        "What to do: correct the cause, then: inventory-refresh dead-letters redrive"
    )
    expect(changes.last).to_contain_text("offset 10: in request 0123456789-1, accepted as job 7001")
    expect(changes.first).to_contain_text('{"sku": "B-1", "quantity": 7}')

    item.read(change("Rome", "B-1", 8, offset=15))
    expect(changes).to_have_count(6)
    expect(changes.nth(1)).to_contain_text("coalesced into the newer change at offset 15")
    expect(page.get_by_label("Location", exact=True)).to_have_value("Rome")

    page.get_by_label("Search by name").fill("Store 007")
    expect(page.locator("#location-rows tr")).to_have_count(1)
    expect(changes).to_have_count(6)
    assert page.evaluate("window.notReloaded")


def test_an_item_that_the_process_does_not_have_and_a_loop_without_time_are_said(page: Page, story: Story) -> None:
    with story_of_an_item(story.board.questions, story.clock).answering():
        find(page, "Rome", "<b>none</b>")
        expect(page.locator("#trace")).to_contain_text("This process has no change of this item")
    find(page, "Rome", "B-1")
    expect(page.locator("#trace")).to_contain_text("No answer: the loop had no time to answer")


@pytest.mark.usefixtures("item")
def test_an_item_is_found_on_a_phone_and_by_keyboard(phone: Page) -> None:
    phone.get_by_label("Location", exact=True).focus()
    phone.keyboard.type("Rome")
    phone.keyboard.press("Tab")
    phone.keyboard.type("B-1")
    phone.keyboard.press("Tab")
    expect(phone.get_by_role("button", name="Find")).to_be_focused()
    phone.keyboard.press("Enter")
    expect(phone.locator("#trace li")).to_have_count(5)
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


@pytest.mark.usefixtures("item")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["page", "phone"])
def test_axe_finds_no_barrier_where_an_item_is_found(device: str, scheme: str, request: pytest.FixtureRequest) -> None:
    shown: Page = request.getfixturevalue(device)
    shown.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    find(shown, "Rome", "B-1")
    expect(shown.locator("#trace li")).to_have_count(5)
    assert violations(shown) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["page", "phone"])
def test_axe_finds_no_barrier(device: str, scheme: str, request: pytest.FixtureRequest, story: Story) -> None:
    shown: Page = request.getfixturevalue(device)
    shown.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    assert violations(shown) == []
    story.go_wrong()
    story.happen(breaker=BreakerState.OPEN, sending_stopped="correct oms.api_key", state=LocationState.HELD)
    expect(shown.locator("#health")).to_have_class("health bad")
    assert violations(shown) == []


def test_without_javascript_the_page_has_the_same_text_and_its_searches_work(
    browser: Browser, url: str, story: Story
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#health")).to_have_text(re.compile("^All is well: "))
    page.get_by_label("Search by name").fill("Store 010")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#location-rows tr")).to_have_count(1)
    with story_of_an_item(story.board.questions, story.clock).answering():
        page.get_by_label("Location", exact=True).fill("Rome")
        page.get_by_label("Part number, UPC or SKU").fill("B-1")
        page.get_by_role("button", name="Find").click()
        expect(page.locator("#trace li")).to_have_count(5)
    expect(page.locator("#location-rows tr")).to_have_count(1)
    context.close()
