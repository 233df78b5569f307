"""Signatures that name each option, for help(), completion and `inspect`, which show `**options` as it stands."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import FunctionType

from onceq._filters import JobFilters
from onceq._submission import JobOptions, MapOptions
from onceq.wire import JobRequest

_OPTIONS: Mapping[str, type] = {f"Unpack[{kind.__name__}]": kind for kind in (JobOptions, MapOptions, JobFilters)}


def spell_out(*kinds: type) -> None:
    """Give each method of the classes that takes options a signature that names them."""
    for kind in kinds:
        for method in vars(kind).values():
            options = _options_of(method) if isinstance(method, FunctionType) else None
            if options is not None:
                method.__dict__["__signature__"] = _spelt(method, options)


def _options_of(method: FunctionType) -> type | None:
    return next((_OPTIONS[said] for said in method.__annotations__.values() if said in _OPTIONS), None)


def _spelt(method: FunctionType, options: type) -> inspect.Signature:
    bare = inspect.signature(method)
    named = [one for one in bare.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    fields = {} if options is JobFilters else JobRequest.model_fields
    for name, said in options.__annotations__.items():
        default = fields[name].default if name in fields else None
        annotation = getattr(said, "__forward_arg__", said)
        named.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    return bare.replace(parameters=named)
