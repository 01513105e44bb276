"""Paging through one record together: page, scroll and pointer follow the lead, anyone may browse alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from load_tests.browsers.chromium import DESKTOP, PHONE, Visitor, wait_until
from load_tests.browsers.steps import (
    expect_page,
    first_doctor,
    invite,
    join_by_link,
    open_running_consult,
    shown_patient,
    sign_in,
    take_lead,
    with_monitored_patient,
)
from load_tests.rig.demo_process import Demo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


DOCUMENTS = (
    "[data-testid=document-text], [data-testid=document-image], [data-testid=record-ecg], "
    "[data-testid=pdf-sheet][data-state=drawn]"
)


def turn_a_sheet(page: Page) -> None:
    """The words of a PDF are there for those who do not see it, and its second page comes by the shared view."""
    expect(page.get_by_test_id("pdf-text")).to_contain_text("Bruce")
    page.get_by_test_id("pdf-next").click()
    expect(page.locator("[data-testid=pdf-sheet][data-page='2'][data-state=drawn]")).to_be_visible(timeout=60_000)


def scrolled_to(page: Page) -> float:
    """How far down the record pane is, 0 to 1."""
    return float(
        page.get_by_test_id("record-page").evaluate(
            "box => box.scrollTop / Math.max(1, box.scrollHeight - box.clientHeight)"
        )
    )


def expect_identity_on_a_phone(page: Page) -> None:
    """(W18) (W23) Both identifiers and the tick stand whole on a phone, and leave it four fifths for the rest."""
    page.set_viewport_size(PHONE)
    banner, tick = page.get_by_test_id("patient-banner").first, page.get_by_test_id("identity-open")
    identifiers = banner.get_by_test_id("banner-identifier")
    expect(identifiers).to_have_count(2)
    parts = [banner.locator("strong").first, identifiers.nth(0), identifiers.nth(1)]
    wait_until(page, lambda: lowest(tick) <= PHONE["height"] / 5, "the tick stands in the uppermost fifth")
    for part in (*parts, tick):
        wait_until(page, lambda part=part: stands_whole(part), "it is on the screen, and nothing lies over it")  # type: ignore[misc]
    page.get_by_test_id("view-record").click()
    record = page.get_by_test_id("record-tab-summary")
    wait_until(page, lambda: lowest(record) <= PHONE["height"] / 2, "one tap, and the summary is there")
    wait_until(page, lambda: lowest(banner) <= PHONE["height"] / 5, "who it is about has not moved")
    page.set_viewport_size(DESKTOP)


def stands_whole(part: Locator) -> bool:
    """Within the width of a phone and under nothing; not while the page is out of sync and shows nobody [W19]."""
    box = part.bounding_box()
    if box is None or box["x"] < 0 or box["x"] + box["width"] > PHONE["width"]:
        return False
    seen = part.evaluate("""part => {
        const box = part.getBoundingClientRect();
        const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        return part.contains(top);
    }""")
    return bool(seen)


def lowest(part: Locator) -> float:
    """Where it ends, in px from the top; as if below every screen while it is not drawn."""
    box = part.bounding_box()
    return float("inf") if box is None else box["y"] + box["height"]


def mark_together(anna: Visitor, bo: Visitor) -> None:
    """A highlight meets its entry on both screens; a note is seen while it is drawn, kept, shown and marked.

    [SH1] [SH3] [SH4] [SH6] [SH7]
    """
    entry = anna.page.locator("[data-testid^=lab-]").first
    anna.page.get_by_test_id("btn-highlight").click()
    entry.click(force=True)
    target = bo.page.get_by_test_id(entry.get_attribute("data-testid") or "")
    shown = bo.page.get_by_test_id("highlight")
    expect(shown).to_be_visible()

    def meets() -> bool:
        there, mark = target.bounding_box(), shown.bounding_box()
        assert there is not None
        assert mark is not None
        return abs(there["y"] - mark["y"]) < 4 and abs(there["height"] - mark["height"]) < 8

    wait_until(bo.page, meets, "the highlight meets its entry")
    anna.page.get_by_test_id("btn-clear-highlight").click()
    expect(shown).to_have_count(0)

    bo.page.get_by_test_id("btn-draw").click()
    expect(anna.page.get_by_test_id("page-frozen")).to_be_visible()
    pen = bo.page.get_by_test_id("pen")
    expect(pen).to_be_visible()
    paper = bo.page.get_by_test_id("record-page").bounding_box()
    assert paper is not None
    bo.page.mouse.move(paper["x"] + paper["width"] * 0.2, paper["y"] + paper["height"] * 0.3)
    bo.page.mouse.down()
    bo.page.mouse.move(paper["x"] + paper["width"] * 0.6, paper["y"] + paper["height"] * 0.5, steps=6)
    # The pen is still down, and the stroke is where it was drawn on the other screen.
    ink = anna.page.locator("[data-testid=others-ink] path")
    expect(ink).to_have_count(1)
    drawn = bo.page.locator("[data-testid=pen] path").get_attribute("d")
    wait_until(anna.page, lambda: ink.get_attribute("d") == drawn, "the whole stroke is on the other screen")
    bo.page.mouse.up()
    bo.page.get_by_test_id("note-text").fill("Repeat tomorrow")
    bo.page.get_by_test_id("btn-note-save").click()
    for someone in (anna, bo):
        expect(someone.page.get_by_test_id("page-frozen")).to_have_count(0)
        expect(someone.page.get_by_test_id("others-ink")).to_have_count(0)
        expect(someone.page.get_by_test_id("notes")).to_contain_text("Repeat tomorrow")
        expect(someone.page.get_by_test_id("notes")).to_contain_text("Dr Bo")
    anna.page.get_by_test_id("note-show").click()
    expect(anna.page.get_by_test_id("note-over-page")).to_be_visible()
    anna.page.get_by_test_id("note-show").click()
    anna.page.get_by_test_id("note-mistake").click()
    anna.page.get_by_test_id("note-mistake-reason").fill("wrong row")
    anna.page.get_by_test_id("note-mistake-reason").press("Enter")
    expect(bo.page.locator("[data-testid=notes] [data-in-error=true]")).to_contain_text("wrong row")


WATCH_SWITCH = """() => {
  const page = () => document.querySelector('[data-testid=record-page]');
  const rows = () => [...(page()?.querySelectorAll('li') ?? [])].map((row) => row.textContent);
  const former = new Set(rows());
  window.__switch = {former: former.size, states: []};
  const look = () => {
    const banner = document.querySelector('[data-testid=patient-banner]')?.dataset.patient ?? '';
    const old = rows().some((row) => former.has(row));
    const state = `${banner}|${old}`;
    if (window.__switch.states.at(-1) !== state) window.__switch.states.push(state);
  };
  look();
  const all = {subtree: true, childList: true, attributes: true, characterData: true};
  new MutationObserver(look).observe(document.body, all);
  const frame = () => { look(); requestAnimationFrame(frame); };
  frame();
}"""


def switch_patient(doctor: Visitor, follower: Visitor) -> None:
    """[W19] [W24] In no commit and no frame of either screen is anything of the former patient under another banner."""
    former = shown_patient(doctor.page)
    screens = (doctor.page, follower.page)
    for page in screens:
        expect(page.locator("[data-testid=record-page] li").first).to_be_visible()
        page.evaluate(WATCH_SWITCH)
    doctor.page.get_by_test_id("btn-open-patient").click()
    choices = doctor.page.locator(f"[data-testid^=patient-choice-]:not([data-testid=patient-choice-{former}])")
    choices.first.click()
    doctor.page.get_by_test_id("patient-confirm").click()
    for page in screens:
        wait_until(page, lambda page=page: shown_patient(page) not in (former, ""), "the next patient is open")  # type: ignore[misc]
        seen = page.evaluate("window.__switch")
        assert seen["former"] > 0
        states = [tuple(state.split("|")) for state in seen["states"]]
        assert states[0] == (former, "true")
        assert ("", "false") in states, f"nothing stood between two patients: {states}"
        assert {state for state in states if state[0] not in (former, "")} == {(shown_patient(page), "false")}
        assert ("", "true") not in states, f"content without an identity: {states}"


def test_followers_see_what_the_lead_sees(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """[LE] Page, scroll, pointer; browse alone and come back; hand the lead over."""
    anna = open_visitor("anna", camera=False)
    sign_in(anna, first_doctor(hub))
    open_running_consult(anna)
    bo = open_visitor("bo", camera=False)
    join_by_link(bo, invite(anna, "Dr Bo"))
    assert shown_patient(bo.page) == shown_patient(anna.page)

    # [IC2] (W23) The bar stands on both screens and names who is missing until both sides have ticked.
    expect_identity_on_a_phone(bo.page)
    for someone, side in ((anna, "hub"), (bo, "partner")):
        missing = someone.page.locator("[data-testid=identity-bar] [data-missing]")
        expect(missing).to_have_attribute("data-missing", "hub partner" if side == "hub" else "partner")
        someone.page.get_by_test_id("identity-open").click()
        someone.page.get_by_test_id("identity-name").click()
        expect(someone.page.get_by_test_id("identity-confirm")).to_be_disabled()
        someone.page.get_by_test_id("identity-second_identifier").click()
        someone.page.get_by_test_id("identity-confirm").click()
    for someone in (anna, bo):
        expect(someone.page.get_by_test_id("identity-bar")).to_have_count(0)

    take_lead(anna)
    anna.page.get_by_test_id("record-tab-labs").click()
    expect_page(bo.page, "labs")
    mark_together(anna, bo)

    box = anna.page.get_by_test_id("record-page")
    box.evaluate("box => box.scrollTo(0, box.scrollHeight)")
    wait_until(bo.page, lambda: scrolled_to(bo.page) > 0.95, "the follower scrolls to the end")

    around = box.bounding_box()
    assert around is not None

    def pointed() -> bool:
        """It is shown for four seconds."""
        for share in (0.4, 0.5):
            anna.page.mouse.move(around["x"] + around["width"] * share, around["y"] + around["height"] * 0.5, steps=4)
        return bo.page.get_by_test_id("lead-pointer").is_visible()

    wait_until(bo.page, pointed, "the lead's pointer")

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
    switch_patient(anna, bo)


def test_a_document_and_a_trend_can_be_read(hub: Demo, open_visitor: Callable[..., Visitor]) -> None:
    """Labs have a drawn trend; a text, a picture, a PDF, a stored ECG and a CT open in the pane."""
    anna = open_visitor("anna", camera=False)
    sign_in(anna, first_doctor(hub))
    open_running_consult(anna)
    with_monitored_patient(anna)
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
        shown = anna.page.locator(DOCUMENTS).first
        expect(shown).to_be_visible(timeout=60_000)
        seen.add(shown.get_attribute("data-testid"))
        if shown.get_attribute("data-testid") == "pdf-sheet":
            turn_a_sheet(anna.page)
        anna.page.get_by_test_id("record-tab-documents").click()
    assert seen == {"document-text", "document-image", "pdf-sheet", "record-ecg"}

    anna.page.get_by_test_id("record-tab-imaging").click()
    anna.page.locator("[data-testid$=imaging-ct]").click()
    expect(anna.page.get_by_test_id("not-for-diagnosis")).to_be_visible()
    anna.page.get_by_test_id("dicom-window").select_option("lung")
    expect(anna.page.get_by_test_id("dicom-particulars")).to_contain_text("C -600 / W 1500")
    picture = anna.page.get_by_test_id("dicom-picture")
    wait_until(anna.page, lambda: picture.evaluate("one => one.naturalWidth") == 160, "the server's picture is shown")
    anna.page.get_by_test_id("record-tab-vitals").click()
    expect(anna.page.get_by_test_id("vital-value-8480-6")).to_have_text("124/74")
