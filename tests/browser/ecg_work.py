"""Steps on a live ECG inside some other test's page load: each proves one way from the screen to the server."""

from __future__ import annotations

from pathlib import Path

import pydicom
from playwright.sync_api import Page, TimeoutError, expect
from pydicom.data import get_testdata_file

from load_tests.browsers.chromium import wait_until

TITLE = "Earlier, at rest"


def shows_the_computed_rate(page: Page) -> None:
    """[W8] The heart-rate signal of the server arrives and is a number."""
    rate = page.get_by_test_id("heart-rate")
    wait_until(page, lambda: rate.inner_text().split("\n")[-2].strip().isdigit(), "a computed heart rate", 60_000)


def _import(page: Page) -> None:
    page.get_by_test_id("ecg-prior-btn").click()
    page.get_by_test_id("ecg-import").click()
    page.get_by_test_id("ecg-import-file").set_input_files(str(get_testdata_file("waveform_ecg.dcm", download=False)))
    form = page.get_by_test_id("ecg-import-form")
    form.get_by_role("textbox").fill(TITLE)
    page.get_by_test_id("ecg-import-confirm").set_checked(True, force=True)
    page.get_by_test_id("ecg-import-send").click()
    expect(page.get_by_test_id("ecg-import-differs")).to_contain_text("642341")
    page.get_by_test_id("ecg-import-confirm").set_checked(True, force=True)
    page.get_by_test_id("ecg-import-send").click()
    done = page.get_by_test_id("ecg-imported")
    expect(done).to_contain_text(TITLE)
    done.get_by_role("button").first.click()


def imports_beside_the_trace(page: Page) -> None:
    """[W22] [W7] A file of another number is taken once that was compared, and then stands beside the live trace."""
    try:
        _import(page)
    except TimeoutError:
        # On a machine that stands still the desk goes out of sync, which closes what is open of a patient [W19].
        if page.get_by_role("dialog").count() > 0:
            raise
        expect(page.locator("[data-testid=ecg][data-state=LIVE]")).to_be_visible(timeout=30_000)
        _import(page)
    earlier = page.get_by_test_id("ecg-prior")
    expect(earlier).to_contain_text(TITLE)
    still = earlier.get_by_test_id("ecg-still")
    wait_until(page, lambda: (still.get_attribute("data-from-us") or "") != "", "the earlier ECG is drawn")
    expect(page.locator("[data-testid=ecg][data-state=LIVE]")).to_be_visible()
    page.get_by_test_id("ecg-prior-btn").click()
    expect(earlier).to_have_count(0)


def downloads_the_recording(page: Page, into: Path) -> None:
    """[W10] The live stream so far, as a DICOM object of the open patient with all its leads."""
    page.get_by_test_id("ecg-download").click()
    with page.expect_download(timeout=60_000) as coming:
        page.get_by_role("menuitem").first.click()
    file = into / "ecg.dcm"
    coming.value.save_as(file)
    assert coming.value.suggested_filename.endswith(".dcm")
    dataset = pydicom.dcmread(file)
    assert dataset.PatientID == "T-0417-23"
    assert sum(int(group.NumberOfWaveformSamples) for group in dataset.WaveformSequence) > 500
    assert {int(group.NumberOfWaveformChannels) for group in dataset.WaveformSequence} == {12}


def keeps_a_strip(page: Page) -> None:
    """[W33] Asked for by its key; `strip_is_kept` follows once ten more seconds have passed."""
    page.keyboard.press("k")
    expect(page.get_by_test_id("ecg-snapshot")).to_have_attribute("data-state", "waiting")


def strip_is_kept(page: Page) -> None:
    """[W33] Whole, with its fingerprint."""
    dialog = page.get_by_test_id("ecg-snapshot")
    expect(dialog).to_have_attribute("data-state", "taken", timeout=60_000)
    assert len(dialog.locator("code").inner_text()) == 64
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
