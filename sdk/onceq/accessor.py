"""`import onceq.accessor` gives frames and columns of pandas an `.onceq`: `df["text"].onceq.map("Summarise: {text}")`.

Sugar for `Client.map` and `Client.compare`, which say what the arguments are and what comes back; `%load_ext onceq`
imports it where pandas is there. The client is made when it is first needed, as `onceq.Client()` finds the service;
with `client=` it is yours.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from onceq._client import Client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onceq.map.rows import PromptSource


@pd.api.extensions.register_dataframe_accessor("onceq")
@pd.api.extensions.register_series_accessor("onceq")
class OnceqAccessor:
    """What `.onceq` is on a frame or a column."""

    def __init__(self, rows: pd.DataFrame | pd.Series[Any]) -> None:
        self._rows = rows

    def map(self, prompt: PromptSource | None = None, *, client: Client | None = None, **options: Any) -> Any:
        """`client.map(rows, prompt, ...)`: a frame of answers on the same index, each distinct row paid once."""
        asked: Any = client or _usual()
        return asked.map(self._rows, prompt, **options)

    def compare(
        self,
        prompt: PromptSource | Mapping[str, PromptSource] | None = None,
        *,
        client: Client | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """`client.compare(rows, prompt, ...)`: prompts or models side by side on the same index."""
        return (client or _usual()).compare(self._rows, prompt, **options)


@cache
def _usual() -> Client:
    return Client()
