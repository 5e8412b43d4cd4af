"""The console's own key: it may predict and nothing else. It follows from the secret key, so it is kept nowhere and stands on no list."""

from __future__ import annotations

import hmac

from django.conf import settings

from access.key_format import ParsedKey, derived, secret_digest, text_of
from access.models import Scope
from serving.table import KeyEntry

ID = "consoletryit"
_PURPOSE = b"signalbox: the console asks the data plane"


def text() -> str:
    """Give the key as the console sends it."""
    return text_of(_key())


def entry() -> KeyEntry:
    """Give what the data plane knows of it."""
    return KeyEntry(id=ID, secret_digest=secret_digest(_key().secret), name="console", scopes=(Scope.PREDICT.value,))


def _key() -> ParsedKey:
    return derived(ID, hmac.digest(settings.SECRET_KEY.encode(), _PURPOSE, "sha256"))
