"""What of a process the garbage collector looks at, and how often.

Why: it looks at all young objects when 700 more are there than went, which a moment's posts or calls already are, and
at everything again and again. Measured (benchmarks/README.md): a seventh of a post's CPU in the API, a tenth of a job's
in the worker, and pauses of 50 ms and more with what was imported in sight. Posts leave it nothing to find, a stream
3 KB in the API, a job 9 KB in the worker: what waits for it now is about a megabyte.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 10_000
"""New objects that are left, before the collector looks at them."""


def set_aside() -> None:
    """What is there now lives as long as the process and is looked at no more; what comes is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG)
