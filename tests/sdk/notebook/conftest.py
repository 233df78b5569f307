"""A folder in which a notebook finds the running service."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.sdk.notebook.kernel import reader_folder
from tests.stack import Stack


@pytest.fixture
def home(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder; the tenant, and so the bill, is its own."""
    for name in ("ONCEQ_BASE_URL", "ONCEQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return reader_folder(stack, tmp_path, f"reader-{uuid4().hex[:8]}")
