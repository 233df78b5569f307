"""What `AsyncClient` does with the rows of a frame. The twin of `_blocking/maps.py`, line for line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack, overload

from onceq._awaiting.base import Connection
from onceq._closing import Inner
from onceq._submission import MapOptions, Models
from onceq.compare import left_usd, rows_again, side_by_side, sides
from onceq.errors import ConnectionFailed, OnceqError
from onceq.map.interrupt import CancelResult, cancel_in_flight
from onceq.map.output import Schema
from onceq.map.plan import MapArguments, Plan, Running, say
from onceq.map.quote import MapQuote
from onceq.map.row import MapRow
from onceq.map.rows import PromptSource
from onceq.map.scope import Contact

if TYPE_CHECKING:
    import pandas as pd

INTERRUPTS: Final = (KeyboardInterrupt, asyncio.CancelledError)
"""What ends a cell that awaits."""
LEFT: Final = (GeneratorExit, asyncio.CancelledError)
"""How a generator hears that it is left; the latter where its event loop ends too, and the former again behind it."""


class Maps(Connection):
    """Maps and comparisons."""

    @overload
    async def map(
        self,
        rows: Any,
        prompt: PromptSource | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | str | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        sample: int | None = None,
        dry_run: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> pd.DataFrame: ...

    @overload
    async def map(
        self,
        rows: Any,
        prompt: PromptSource | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | str | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        sample: int | None = None,
        dry_run: Literal[True],
        **options: Unpack[MapOptions],
    ) -> MapQuote: ...

    async def map(
        self,
        rows: Any,
        prompt: PromptSource | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | str | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        sample: int | None = None,
        dry_run: bool = False,
        **options: Unpack[MapOptions],
    ) -> pd.DataFrame | MapQuote:
        """Ask about every row, and return a frame of answers on the same index, each distinct row paid once.

        `rows` is a column, a frame (pandas or polars), a list or an iterator; `prompt` a text with `{column}` in it
        (`{text}` or `{value}` where a row is one value), a function of the row that gives a prompt, or nothing where
        the rows are prompts. `output`, a pydantic model or a JSON Schema, asks for JSON and gives typed columns.

        Columns: `text` (str), or the output's own; `status`, `cost_usd` (float; 0 in rows that share an answer, so that
        the sum is the bill), `ttft_s` (float, seconds), `tokens` (int, input and output), `job_id`, `error`; with `n`
        above 1 there are `n` lines a row and a column `sample`. `MapRow` says what each holds. A row's trouble stays in
        it. polars gives polars.

        Run again, also in another kernel or on another machine, it returns what is done at once, takes up what is in
        flight, and posts what is missing or failed (`retry_failed=False`: missing alone). Rows are told apart
        by their content and `name`; another prompt or model makes new rows, `fresh=True` asks all anew. Finished rows
        are kept in `onceq-map.sqlite` in the working directory (`cache=` another file, or False), longer than by the
        service. A bar tells of progress where tqdm is there; `progress=` False leaves it out, a text is its title.

        `sample=20` runs so many rows and says what all of them will cost. `max_cost_usd` is never passed by what the
        frame's rows cost together. `dry_run=True` posts nothing and returns a `MapQuote`. An interrupt leaves what is
        in flight to the service, and says how to come back; with `on_interrupt="cancel"` it is cancelled. An iterator
        is walked once, at most 10,000 rows ahead of the answers; where a `sample` or `max_cost_usd` is asked for, all
        rows are read before the first is posted, and `max_cost_usd` refuses what has no length.

        Raises BadRequestError and ConfigurationError for what can't be a map, before anything is sent, and what
        `submit` raises where the service would refuse every row.
        """
        arguments = MapArguments(
            rows=rows, prompt=prompt, model=self._model if model is None else model, output=output, name=name, n=n,
            fresh=fresh, retry_failed=retry_failed, sample=sample, max_cost_usd=max_cost_usd, cache=cache,
            progress=progress, on_interrupt=on_interrupt, options=options,
        )  # fmt: skip
        plan = Plan(arguments, Contact(self._config, self._backoff), frames=True)
        if dry_run:
            with closing(plan.open_cache()) as known:
                return await self._driver.run(plan.quote(known))
        running = plan.start()
        done = [row async for row in self._mapped(running)]
        say(running.forecast())
        return plan.frame(done)

    async def compare(
        self,
        rows: Any,
        prompt: PromptSource | Mapping[str, PromptSource] | None = None,
        *,
        models: Sequence[str] | None = None,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | str | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        **options: Unpack[MapOptions],
    ) -> pd.DataFrame:
        """Ask every row with several prompts, several `models`, or each of both, and lay the answers side by side.

        `prompt` is one prompt as in `map`, or a dict of them by name. A side is called after its prompt, its model, or
        both (`"terse v2"`, `"openai/gpt-4o"`, `"terse v2 · openai/gpt-4o"`). A prompt's name goes into its jobs'
        labels, `terse v2` as `prompt: terse` and `version: 2`, by which the dashboard and `costs_frame` sum up.

        Columns are those of `map` under each side: `frame["terse v2", "text"]`, or one field of all sides by
        `frame.xs("cost_usd", axis=1, level="field")`; for polars rows `terse v2: text`. `onceq.compare.summary` has a
        row a side. Each side is a map, one after the other, and what `map` says of running again, cache, progress and
        interrupts holds; `max_cost_usd` is for all sides together. Raises what `map` raises.
        """
        again = rows_again(rows)
        made: dict[str, pd.DataFrame] = {}
        for side in sides(prompt, models, self._model if model is None else model):
            made[side.name] = await self.map(
                again, side.prompt, model=side.model, output=output, name=name, fresh=fresh, retry_failed=retry_failed,
                max_cost_usd=left_usd(max_cost_usd, made.values()), cache=cache, on_interrupt=on_interrupt,
                progress=side.name if progress is None else progress, **side.options(options),
            )  # fmt: skip
        return side_by_side(made)

    def amap(
        self,
        rows: Any,
        prompt: PromptSource | None = None,
        *,
        model: Models | None = None,
        output: Schema | None = None,
        name: str = "map",
        n: int = 1,
        fresh: bool = False,
        retry_failed: bool = True,
        max_cost_usd: float | None = None,
        cache: bool | str | Path = True,
        progress: bool | str | None = None,
        on_interrupt: Literal["detach", "cancel"] = "detach",
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[MapRow]:
        """The rows of `map` as they are done, in no order, each a `MapRow`. Takes what `map` takes; needs no pandas.

        Leaving the loop, be it by `break`, an exception or Ctrl-C, is an interrupt: what is in flight is left to the
        service, and the same map takes it up again; with `on_interrupt="cancel"` it is cancelled. That happens when
        the iterator is closed, which Python does some time after a loop was left: maybe after the client or the event
        loop, when nothing can be cancelled any more. So `on_interrupt="cancel"` needs
        `async with contextlib.aclosing(client.amap(...)) as rows`, which closes it before going on.
        """
        arguments = MapArguments(
            rows=rows, prompt=prompt, model=self._model if model is None else model, output=output, name=name, n=n,
            fresh=fresh, retry_failed=retry_failed, sample=None, max_cost_usd=max_cost_usd, cache=cache,
            progress=progress, on_interrupt=on_interrupt, options=options,
        )  # fmt: skip
        return self._begun(Plan(arguments, Contact(self._config, self._backoff), frames=False))

    async def _begun(self, plan: Plan) -> AsyncGenerator[MapRow]:
        """Opens nothing before the first row is asked for, which may be never."""
        running = plan.start()
        async with aclosing(Inner(self._mapped(running))) as rows:
            async for row in rows:
                try:
                    yield row
                except LEFT:  # the loop was left: by break, by an exception or by Ctrl-C, which look alike
                    await rows.aclose()
                    if running.run.in_flight:
                        await self._leave(running, "The loop was left")
                    raise

    async def _mapped(self, running: Running) -> AsyncGenerator[MapRow]:
        try:
            async with aclosing(self._driver.walk(running.run.steps())) as packs:
                async for rows in packs:
                    for row in rows:
                        yield row
        except INTERRUPTS:
            await self._leave(running, "Interrupted")
            raise
        except Exception as exc:  # of the service, or of an iterator of rows
            if running.run.waiting or (running.run.unanswered and isinstance(exc, ConnectionFailed)):
                exc.add_note(running.left("Interrupted", awaited=True))
            raise
        finally:
            running.close()

    async def _leave(self, running: Running, how: str) -> None:
        """Cancels what is in flight where that was asked for, and says what becomes of it."""
        running.bar.close()  # or what is said would stand behind it, in its line
        cancel_result: CancelResult = None
        if running.cancels:
            try:
                cancel_result = await self._driver.run(cancel_in_flight(running.run, self._backoff))
            except (*LEFT, KeyboardInterrupt, OnceqError, RuntimeError) as exc:  # httpx2's, of a client that is closed
                cancel_result = exc
        say(running.left(how, cancel_result, awaited=True))
