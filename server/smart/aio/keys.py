"""The hub's own key, by which apps can check who a person is (``id_token``); made at the first start."""

import contextlib
import json
import os
from pathlib import Path

from joserfc.jwk import RSAKey

KEY_FILE = "smart-key.json"
ALGORITHM = "RS256"
"""What OpenID Connect Core (section 15.1) demands of everybody."""


def identity_key(data_dir: Path) -> RSAKey:
    """The key of this installation.

    Raises:
        OSError: the folder cannot be written, or the file not be read.
        ValueError: the file does not hold a key.
    """
    path = data_dir / KEY_FILE
    if not path.exists():
        made = RSAKey.generate_key(2048, parameters={"use": "sig", "alg": ALGORITHM}, auto_kid=True)
        with contextlib.suppress(FileExistsError):
            # O_EXCL: of two processes that start together, one makes the key and both read it.
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(made.as_dict(private=True), file)
    try:
        return RSAKey.import_key(json.loads(path.read_text(encoding="utf-8")))
    except Exception as problem:  # whatever the library says of a file that is no key
        raise ValueError(f"{path} does not hold a key; remove it to have a new one made") from problem
