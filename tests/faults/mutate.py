"""`make mutants`: puts each seeded defect into a copy of the source tree and sees whether its tests find it.

Prints a table; ends with 1 when a defect survives, or when the tests fail without any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults.mutants import MUTANTS, Mutant
from tests.faults.mutants_map import MAP_MUTANTS

ROOT = Path(__file__).parents[2]
TREES = ("sdk", "service", "dashboard", "tests")
FILES = ("pyproject.toml", "README.md")
ALL = (*MUTANTS, *MAP_MUTANTS)
FOUND, PASSED, HUNG = 1, 0, -1
"""pytest's exit codes: some test failed, all passed. All else (nothing collected, a crash, no end) finds nothing."""
LONGEST_S = 600


def copy_of_the_tree(place: Path) -> None:
    """What the tests need of the project."""
    for name in TREES:
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in FILES:
        shutil.copy(ROOT / name, place / name)


def run_tests(place: Path, tests: Iterable[str]) -> tuple[int, str]:
    """pytest's exit code on the copy, and the last lines that it said."""
    paths = os.pathsep.join(str(place / name) for name in ("sdk", "service", "dashboard"))
    env = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "ONCEQ_MODEL_UNSHRUNK": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=place, env=env, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        return HUNG, "the tests did not end"
    return done.returncode, "\n".join((done.stdout + done.stderr).splitlines()[-15:])


def seeded(mutant: Mutant, place: Path) -> str:
    """Writes the defect into the copy; the file's text as it was."""
    path = place / mutant.file
    text = path.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file} has {text.count(mutant.old)} times: {mutant.old}")
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    return text


def finds(mutant: Mutant, place: Path) -> bool:
    """Whether the tests that are named for it find a defect."""
    before = seeded(mutant, place)
    began = time.monotonic()
    try:
        code, said = run_tests(place, mutant.found_by)
    finally:
        (place / mutant.file).write_text(before, "utf-8")
    word = {FOUND: "found", PASSED: "SURVIVED"}.get(code, f"pytest ended with {code}")
    print(f"{word:<9} {time.monotonic() - began:5.1f} s  {mutant.breaks}", flush=True)
    if code not in (FOUND, PASSED):
        print(said)
    return code == FOUND


def chosen(words: Sequence[str]) -> list[Mutant]:
    """The defects whose sentence has one of the words; all of them without any."""
    return [m for m in ALL if not words or any(word.lower() in m.breaks.lower() for word in words)]


def main(words: Sequence[str]) -> int:
    """The exit code. Words choose among the defects."""
    mutants = chosen(words)
    if not mutants:
        print(f"No defect has one of these words in its sentence: {' '.join(words)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="oq-mutants-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        copy_of_the_tree(place)
        code, said = run_tests(place, sorted({test for mutant in mutants for test in mutant.found_by}))
        if code != PASSED:
            print(f"The tests fail without any defect:\n{said}")
            return 1
        found = sum([finds(mutant, place) for mutant in mutants])
    print(f"{found} of {len(mutants)} seeded defects were found")
    return int(found != len(mutants))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
