"""What the lock keeps at the hub: it opens where it was sealed, with the key that sealed it, and nowhere else."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.gateway.sealing import NotAuthentic, SealingKeys, load_keys, new_keys, rotate, write_private
from server.lock.aio.vault import MAGIC, KeyAway, KeyPlace, Vault, split

KEYS = new_keys()
FOLDERS = itertools.count()
Body = st.binary(max_size=2_000)


def vault(folder: Path, keys: SealingKeys = KEYS) -> Vault:
    return Vault(folder, KeyPlace(path=folder / "none", given="given"), keys)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vault")


@given(body=Body)
@settings(max_examples=40)
def test_a_file_comes_back_as_it_was_and_lies_sealed(folder: Path, body: bytes) -> None:
    here = vault(folder / str(next(FOLDERS)))
    digest = here.keep(body)
    assert digest == hashlib.sha256(body).hexdigest()
    assert here.read(digest) == body
    (file,) = here.path(digest).parent.iterdir()
    key, sealed = split(file.read_bytes())
    assert (key, len(sealed)) == (KEYS.newest, len(body) + 28)
    assert list(here.kept()) == [(digest, KEYS.newest)]


@given(body=Body, where=st.integers(0, 2**32), bit=st.integers(0, 7), cut=st.booleans())
@settings(max_examples=60)
def test_a_changed_or_cut_file_is_none_and_is_not_replaced_but_set_aside(
    folder: Path, body: bytes, where: int, bit: int, cut: bool
) -> None:
    here = vault(folder / str(next(FOLDERS)))
    digest = here.keep(body)
    path = here.path(digest)
    content = bytearray(path.read_bytes())
    place = where % len(content)
    if cut:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    path.write_bytes(content)
    try:
        assert here.read(digest) is None
    except KeyAway:
        assert len(MAGIC) <= place < len(MAGIC) + 1 + len(KEYS.newest), "it names another key"
    here.keep(body)
    assert here.read(digest) == body
    (aside,) = path.parent.glob("*.unopened.*")
    assert aside.read_bytes() == content


@given(body=Body, other=Body)
@settings(max_examples=30)
def test_a_file_under_anothers_name_does_not_open(folder: Path, body: bytes, other: bytes) -> None:
    here = vault(folder / str(next(FOLDERS)))
    one, two = here.keep(body), here.keep(other)
    if one != two:
        here.path(one).write_bytes(here.path(two).read_bytes())
        assert here.read(one) is None


@given(text=st.text(max_size=300), value=Body, row=st.integers(0, 9), other=st.integers(0, 9))
@settings(max_examples=80)
def test_a_value_opens_in_its_own_row_and_column_only(
    folder: Path, text: str, value: bytes, row: int, other: int
) -> None:
    here = vault(folder)
    sealed = here.seal_row("t", "g", row, body=value, about=text, gone=None)
    key = sealed["sealed_with"]
    assert here.unseal(key, sealed["body"], "t", "g", row, "body") == value
    assert here.unseal_text(key, sealed["about"], "t", "g", row, "about") == text
    assert sealed["gone"] is None
    elsewhere = [("t", "g", row, "about"), ("u", "g", row, "body")] + [("t", "g", other, "body")] * (other != row)
    for place in elsewhere:
        with pytest.raises(NotAuthentic):
            here.unseal(key, sealed["body"], *place)
    with pytest.raises(KeyAway):
        vault(folder, new_keys()).unseal(key, sealed["body"], "t", "g", row, "body")
    foreign = SealingKeys(KEYS.mac, {key: new_keys().mac}, key)
    with pytest.raises(NotAuthentic) as told:
        vault(folder, foreign).unseal(key, sealed["body"], "t", "g", row, "body")
    assert not isinstance(told.value, KeyAway)


@given(value=Body, text=st.text(max_size=100))
def test_what_names_no_key_is_as_an_earlier_version_wrote_it(folder: Path, value: bytes, text: str) -> None:
    here = vault(folder)
    assert (here.unseal("", value, "t", 1), here.unseal_text("", text, "t", 1)) == (value, text)


@given(text=st.text(max_size=40))
def test_text_that_is_no_base64_is_not_authentic(folder: Path, text: str) -> None:
    with pytest.raises(NotAuthentic):
        vault(folder).unseal_text(KEYS.newest, text, "t", 1, "about")


def test_an_open_file_of_before_is_read_and_gone_once_it_is_sealed(tmp_path: Path) -> None:
    here, digest = vault(tmp_path), hashlib.sha256(b"DICM").hexdigest()
    plain = here.path(digest).with_name(digest)
    plain.parent.mkdir()
    plain.write_bytes(b"DICM")
    assert (here.read(digest), list(here.kept())) == (b"DICM", [(digest, "")])
    plain.write_bytes(b"DICN")
    assert here.read(digest) is None
    here.keep(b"DICM")
    assert (here.read(digest), plain.exists()) == (b"DICM", True), "damaged: it is not ours to throw away"
    plain.write_bytes(b"DICM")
    here.keep(b"DICM")
    assert not plain.exists()
    assert list(here.kept()) == [(digest, KEYS.newest)]


def test_a_key_that_was_added_seals_at_once_and_others_are_not_believed(tmp_path: Path) -> None:
    """Several processes share the file: each sees it, and none goes over to keys that do not open what is there."""
    path = tmp_path / "keys"
    here = Vault(tmp_path / "lock", KeyPlace(path=path), load_keys(path))
    first = here.newest
    old = here.keep(b"old")
    added = rotate(path)
    assert here.newest == added != first
    new = here.keep(b"new")
    assert (here.read(old), here.read(new)) == (b"old", b"new")
    assert sorted(key for _digest, key in here.kept()) == sorted([first, added])
    kept = path.read_bytes()
    path.unlink()
    load_keys(path)  # others
    assert here.newest == added
    write_private(path, b"nonsense")
    assert here.read(old) == b"old"
    path.unlink()
    assert here.read(new) == b"new"
    write_private(path, kept)
    assert here.newest == added
