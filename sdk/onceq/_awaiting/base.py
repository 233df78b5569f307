"""What every part of `AsyncClient` stands on."""

from __future__ import annotations

from onceq._config import Config
from onceq._drive import AsyncDriver
from onceq._http import Backoff
from onceq._submission import Models


class Connection:
    """A service, how patiently it is asked, and the model that is used where a call names none."""

    _driver: AsyncDriver
    _backoff: Backoff
    _config: Config
    _model: Models | None
