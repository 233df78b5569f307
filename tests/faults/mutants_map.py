"""Seeded defects of the SDK's map, frames and cells, each named after what the user was promised. See mutants.py."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.mutants import Mutant

MAP, SDK = "sdk/onceq/map", "sdk/onceq"
TESTS = "tests/sdk/map"
RUNS, RERUN, MONEY, COMPARE = (f"{TESTS}/test_{name}.py" for name in ("map", "rerun", "money", "compare"))
FLOW, BAR, ODD = (f"{TESTS}/test_{name}.py" for name in ("flow", "progress", "odd_rows"))
CELLS = "tests/sdk/notebook"

MAP_MUTANTS: Sequence[Mutant] = (
    Mutant(
        "Map: another model makes new rows", f"{MAP}/asks.py",
        "if key not in NOT_IN_CONTENT}", 'if key not in {*NOT_IN_CONTENT, "model"}}', (RUNS,),
    ),
    Mutant(
        "Map: another prompt makes new rows", f"{MAP}/asks.py",
        "_over(self._content, prompt, sample)", "_over(self._content, len(str(prompt)), sample)", (RUNS,),
    ),
    Mutant(
        "Map: a label changes nothing about the answer", f"{MAP}/asks.py",
        '"team", "labels",', '"team",', (f"{RERUN}::test_finished_rows_outlive_the_service",),
    ),
    Mutant(
        "Map: another name makes new rows", f"{MAP}/asks.py",
        "_canonical([name, content])", '_canonical(["", content])', (RUNS,),
    ),
    Mutant(
        "Map: another machine posts the same keys", f"{MAP}/asks.py",
        "_canonical([name, self.fields])", "_canonical([name, self.fields, id(self)])", (RUNS,),
    ),
    Mutant(
        "Map: n answers a row are n answers", f"{MAP}/asks.py",
        "ask.prompt, ask.sample, ask.generation", "ask.prompt, 0, ask.generation", (RUNS,),
    ),
    Mutant(
        "Map: fresh=True asks anew", f"{MAP}/asks.py",
        "ask.sample, ask.generation, ask.attempt)", "ask.sample, ask.attempt)", (RUNS,),
    ),
    Mutant(
        "Map: a failed row that is tried again has an attempt of its own in its key", f"{MAP}/asks.py",
        "ask.generation, ask.attempt).hex", "ask.generation).hex", (RUNS,),
    ),
    Mutant(
        "Map: an earlier run's failure is passed over, also without its cache", f"{MAP}/run.py",
        "if job.status in OWED and", "if not job.status and", (RUNS,),
    ),
    Mutant(
        "Map: retry_failed=False leaves failed rows alone", f"{MAP}/intake.py",
        "known.outcome.status in OWED and self._options.retry_failed:", "known.outcome.status in OWED:", (RUNS,),
    ),
    Mutant(
        "Map: finished rows come from the cache", f"{MAP}/intake.py",
        "        return known.outcome\n", "        return None\n", (RERUN,),
    ),
    Mutant(
        "Map: what is sent is remembered before it leaves", f"{MAP}/run.py",
        "(ask.key, ask.generation, ask.attempt) for ask, _ in sent if ask.create", "", (RERUN,),
    ),
    Mutant(
        "Map: what has lapsed is said, not paid again", f"{MAP}/intake.py",
        "ask.create = known.job_id is None and", "ask.create = known.job_id or", (RERUN,),
    ),
    Mutant(
        "Map: what was sent too long ago is only asked for", f"{MAP}/intake.py",
        "time.time() - known.sent_at < ARRIVES_S", "True", (RERUN,),
    ),
    Mutant(
        "Map: simulated answers are remembered apart", f"{MAP}/scope.py",
        "SIMULATED if _simulated(models, catalog) else 'real'", "'real'", (RERUN,),
    ),
    Mutant(
        "Map: equal rows are asked once", f"{MAP}/intake.py",
        "self._open[key].slots.append(slot)", "fresh.append(Ask(key, prompt, sample + 1000, [slot]))", (RUNS,),
    ),
    Mutant(
        "Map: rows that share an answer share its cost", f"{MAP}/intake.py",
        "(slot, free if n else outcome)", "(slot, outcome)", (RUNS,),
    ),
    Mutant(
        "Map: rows keep their order", f"{MAP}/plan.py",
        "rows.sort(key=lambda row: (row.position, row.sample))", "pass", (RUNS,),
    ),
    Mutant(
        "Map: the index is the frame's", f"{MAP}/frame.py",
        "if source.index is None else source.index", "if source.index is None else source.index[::-1]", (RUNS,),
    ),
    Mutant(
        "Map: polars gives polars", f"{MAP}/frame.py",
        'return _polars_frame(columns) if source.kind == "polars" else', "return", (RUNS,),
    ),
    Mutant(
        "Map: polars columns have types of their own, also where nothing came", f"{MAP}/frame.py",
        "polars.Series(name, values, dtype=kinds.get(kind), strict=False)", "polars.Series(name, values, strict=False)",
        (RUNS,),
    ),
    Mutant(
        "Map: the bar tells what is still to be paid", f"{MAP}/progress.py",
        '(f" of {_range(forecast)}" if forecast else "")', '""', (BAR,),
    ),
    Mutant(
        "Map: the bar tells failures", f"{MAP}/progress.py",
        '(run.failed, "failed"), ', "", (BAR,),
    ),
    Mutant(
        "Map: remembered rows make the time left no shorter", f"{MAP}/progress.py",
        "self._bar.initial = run.remembered", "pass", (BAR,),
    ),
    Mutant(
        "Map: a row's trouble stays in its row", f"{MAP}/intake.py",
        "except (RowProblem, ValueError) as exc:", "except KeyError as exc:", (RUNS,),
    ),
    Mutant(
        "Map: an answer that does not fit is invalid", f"{MAP}/output.py",
        "value = self._model.model_validate_json(text)", "value = self._model.model_construct()", (RUNS,),
    ),
    Mutant(
        "Map: a value that no column could hold makes its row invalid", f"{MAP}/output.py",
        "if kind in MOMENTS and moment(cell) is None and cell is not None:", "if not kind:", (ODD,),
    ),
    Mutant(
        "Map: a prompt that names no column is refused", f"{MAP}/rows.py",
        "    if not names:\n", "    if not known:\n", (RUNS,),
    ),
    Mutant(
        "Map: an iterator that fails says what goes on", f"{SDK}/_blocking/maps.py",
        "exc.add_note(", "str(", (ODD,),
    ),
    Mutant(
        "Map: at most 10,000 rows are in flight", f"{MAP}/run.py",
        "while len(self.waiting) <= WINDOW - MAX_BATCH and", "while", (FLOW,),
    ),
    Mutant(
        "Map: an interrupt detaches", f"{MAP}/plan.py",
        'self.cancels = arguments.on_interrupt == "cancel"', "self.cancels = True", (RERUN,),
    ),
    Mutant(
        "Map: an interrupt cancels where that is wanted", f"{MAP}/plan.py",
        "return self.plan.cancels and self.run.in_flight > 0", "return False", (RERUN,),
    ),
    Mutant(
        "Map: an interrupted cell says what is still committed", f"{MAP}/interrupt.py",
        'if run.budget.reserved else ""', 'if not run else ""', (RERUN,),
    ),
    Mutant(
        "Map: max_cost_usd counts what is in flight", f"{MAP}/money.py",
        "(self.limit or 0) - self.spent - self.reserved", "(self.limit or 0) - self.spent", (FLOW,),
    ),
    Mutant(
        "Map: max_cost_usd counts what is spent", f"{MAP}/money.py",
        "(self.limit or 0) - self.spent - self.reserved", "(self.limit or 0) - self.reserved", (MONEY,),
    ),
    Mutant(
        "Map: max_cost_usd sets aside what the longest row may cost", f"{MAP}/allowance.py",
        "if kind not in self._known or self._known[kind][0] < len(body):",
        "kind = next(iter(self._known), kind)\n        if kind not in self._known:", (FLOW,),
    ),
    Mutant(
        "Map: max_cost_usd knows that not bytes alone bound a request", f"{MAP}/allowance.py",
        'unicodedata.is_normalized("NFKC", body.decode())', "body", (FLOW,),
    ),
    Mutant(
        "Map: max_cost_usd counts what is paid already", f"{MAP}/run.py",
        "(not self._ready or self.budget.limit is not None)", "not self._ready", (FLOW,),
    ),
    Mutant(
        "Map: a dry run's bound holds for rows of any length", f"{MAP}/quote.py",
        "quote_of(template, group[-1], backoff)", "quote_of(template, group[0], backoff)", (MONEY,),
    ),
    Mutant(
        "Map: a dry run knows what is answered already", f"{MAP}/quote.py",
        'done += sum(outcome.status == "succeeded" for _, outcome in taken.filled)', "done += 0", (MONEY,),
    ),
    Mutant(
        "Map: a sample is spread over all rows", f"{MAP}/rows.py",
        "frozenset(round(n * (total - 1) / (wanted - 1)) for n in range(wanted))", "frozenset(range(wanted))", (MONEY,),
    ),
    Mutant(
        "Map: a sample's forecast has a range", f"{MAP}/money.py",
        "spread = _t95(n - 1) * sqrt(", "spread = 0 * sqrt(", (MONEY,),
    ),
    Mutant(
        "Map: a forecast is of all rows", f"{MAP}/money.py",
        "total = self.spent + left * mean", "total = self.spent + mean", (MONEY,),
    ),
    Mutant(
        "Compare: a limit is for all sides together", f"{SDK}/compare.py",
        "else max(limit_usd - spent, SMALLEST_USD)", "else limit_usd", (COMPARE,),
    ),
    Mutant(
        "Compare: labels carry prompt and version", f"{SDK}/compare.py",
        "labels = {**self.labels, **(given.get(\"labels\") or {})}", "labels = given.get(\"labels\")", (COMPARE,),
    ),
    Mutant(
        "Frames: money is exact", f"{SDK}/frames.py",
        '"cost_nano_usd": Column(WHOLE,', '"cost_nano_usd": Column(REAL,', ("tests/sdk/test_frames.py",),
    ),
    Mutant(
        "Cells: a stream is replaced in place", f"{SDK}/notebook/screen.py",
        "if self._handle is None:", "if True:", (f"{CELLS}/test_live.py",),
    ),
    Mutant(
        "Cells: a stream is live", f"{SDK}/notebook/screen.py",
        "if begun < self._not_before:", "if self._handle:", (f"{CELLS}/test_live.py",),
    ),
    Mutant(
        "Cells: model text is never markup", f"{SDK}/_display.py",
        "body = safe_html(text) if text", "body = text if text", (f"{CELLS}/test_hostile.py",),
    ),
    Mutant(
        "Cells: prices are no formulas", f"{SDK}/_display.py",
        "return untypeset(escape(text))", "return escape(text)", (f"{CELLS}/test_hostile.py",),
    ),
    Mutant(
        "Cells: an interrupted stream says how to come back", f"{SDK}/notebook/live.py",
        "screen.end(stream.text, _display.detached(stream.job_id, awaited=False))", "pass",
        (f"{CELLS}/test_live.py",),
    ),
    Mutant(
        "Cells: %%llm fills in the notebook's variables", f"{SDK}/_template.py",
        "str(namespace[hole[1]]) if hole[1] in namespace else hole[0]", "hole[0]", (f"{CELLS}/test_magics.py",),
    ),
)  # fmt: skip
