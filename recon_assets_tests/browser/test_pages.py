"""The pages of the Dagster UI show the chain of assets, what a day holds, and what the checks found."""

from playwright.sync_api import Page, expect

SHOWN = [
    "wind_bids",
    "curtailme…_records",
    "S19J_PRO",
    "S9",
    "M20S",
    "daily_summaries",
    "monthly_summaries",
    "yearly_summaries",
]
"""Assets of the chain as the graph writes their names, which it shortens."""
BITCOIN_SUMMARIES = "bitcoin…_summaries"


def test_the_graph_shows_the_assets_of_the_chain(page: Page) -> None:
    # given the graph as it opens: three groups, closed
    graph = page.locator("svg foreignObject")
    page.goto("/asset-groups")
    for group in ("elexon", "curtailment", "bitcoin"):
        expect(graph.filter(has_text=group)).to_be_visible()

    # when
    page.keyboard.press("Alt+e")

    # then
    for name in SHOWN:
        expect(graph.get_by_text(name, exact=True)).to_be_visible()
    expect(graph.get_by_text(BITCOIN_SUMMARIES, exact=True)).to_have_count(3)


def test_the_page_of_an_asset_shows_its_days_and_what_one_holds(page: Page) -> None:
    # given the days of an asset, of which only two are there
    page.goto("/assets/curtailment_records?view=partitions")
    expect(page.get_by_text("Materialized (2)")).to_be_visible()

    # when
    page.get_by_text("Missing (").click()
    expect(page.get_by_text("2 Partitions Selected")).to_be_visible()
    page.get_by_text("2025-06-06").first.click()

    # then
    expect(page.get_by_text("Latest materialization")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="dagster/partition_row_count")).to_contain_text("80")
    expect(page.get_by_role("row").filter(has_text="volume_mwh")).to_contain_text("-1023.428")


def test_the_tab_of_checks_shows_one_that_holds(page: Page) -> None:
    # given
    page.goto("/assets/curtailment_records?view=checks")

    # when
    page.get_by_text("records_equal_bids").first.click()

    # then
    expect(page.get_by_text("94 records, 0 dates, 0 missing, 0 surplus, 0 wrong")).to_be_visible()
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()
