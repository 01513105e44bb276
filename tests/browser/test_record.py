"""Paging through one record together: page, scroll and pointer follow the lead, anyone may browse alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from load_tests.chromium import Visitor, wait_until
from load_tests.demo_process import Demo
from load_tests.steps import (
    expect_page,
    first_doctor,
    invite,
    join_by_link,
    open_running_consult,
    shown_patient,
    sign_in,
    take_lead,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


def scrolled_to(page: Page) -> float:
    """How far down the record pane is, 0 to 1."""
    return float(
        page.get_by_test_id("record-page").evaluate(
            "box => box.scrollTop / Math.max(1, box.scrollHeight - box.clientHeight)"
        )
    )


def test_followers_see_what_the_lead_sees(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """[LE] Page, scroll, pointer; browse alone and come back; hand the lead over."""
    anna = open_visitor("anna", camera=False)
    sign_in(anna, first_doctor(hub))
    open_running_consult(anna)
    bo = open_visitor("bo", camera=False)
    join_by_link(bo, invite(anna, "Dr Bo"))
    assert shown_patient(bo.page) == shown_patient(anna.page)

    take_lead(anna)
    anna.page.get_by_test_id("record-tab-labs").click()
    expect_page(bo.page, "labs")

    box = anna.page.get_by_test_id("record-page")
    box.evaluate("box => box.scrollTo(0, box.scrollHeight)")
    wait_until(bo.page, lambda: scrolled_to(bo.page) > 0.95, "the follower scrolls to the end")

    around = box.bounding_box()
    assert around is not None
    anna.page.mouse.move(around["x"] + around["width"] * 0.4, around["y"] + around["height"] * 0.5)
    anna.page.mouse.move(around["x"] + around["width"] * 0.5, around["y"] + around["height"] * 0.5, steps=4)
    expect(bo.page.get_by_test_id("lead-pointer")).to_be_visible()

    # Alone: the lead's pages do not follow; coming back, the present page of the lead is shown.
    bo.page.get_by_test_id("btn-browse-alone").click()
    bo.page.get_by_test_id("record-tab-medications").click()
    expect_page(bo.page, "medications")
    anna.page.get_by_test_id("record-tab-reports").click()
    expect_page(anna.page, "reports")
    expect_page(bo.page, "medications")
    bo.page.get_by_test_id("btn-return").click()
    expect_page(bo.page, "reports")

    # Handed over, the guest leads and the doctor follows.
    anna.page.get_by_test_id("btn-lead").click()
    anna.page.get_by_role("menuitem", name="Dr Bo").click()
    expect(bo.page.get_by_test_id("btn-lead")).to_have_attribute("data-leading", "true")
    expect(anna.page.get_by_test_id("btn-lead")).to_have_attribute("data-leading", "false")
    bo.page.get_by_test_id("record-tab-allergies").click()
    expect_page(anna.page, "allergies")


def test_a_document_and_a_trend_can_be_read(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """Labs have a drawn trend; a text document and a picture open in the pane."""
    anna = open_visitor("anna", camera=False)
    sign_in(anna, first_doctor(hub))
    open_running_consult(anna)
    take_lead(anna)
    anna.page.get_by_test_id("record-tab-labs").click()
    anna.page.locator("[data-testid^=lab-]:not([data-testid=lab-trend])").first.click()
    expect(anna.page.get_by_test_id("lab-trend").first).to_be_visible()
    anna.page.get_by_test_id("record-tab-documents").click()
    expect_page(anna.page, "documents")
    entries = anna.page.get_by_test_id("record-page").get_by_role("button")
    expect(entries.first).to_be_visible()
    seen = set()
    for index in range(entries.count()):
        entries.nth(index).click()
        shown = anna.page.locator("[data-testid=document-text], [data-testid=document-image]").first
        expect(shown).to_be_visible()
        seen.add(shown.get_attribute("data-testid"))
        anna.page.get_by_test_id("record-tab-documents").click()
    assert seen == {"document-text", "document-image"}
