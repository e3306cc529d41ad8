"""Every row of docs/reliability.md names a test that there is, or says why not.

    named_tests.py docs/reliability.md FILE...

The files are the sources of tests and their BUILD.bazel files.
"""

import pathlib
import re
import sys

ROWS = range(1, 68)
# `Suite.Name` and `//tests/room:target`, in backticks.
NAMED_TEST = re.compile(r"`([A-Z]\w*Test)\.(\w+)`")
NAMED_TARGET = re.compile(r"`//(tests/[\w/]+):(\w+)`")
DEFINED_TEST = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", re.MULTILINE)
TABLE_ROW = re.compile(r"^\| (\d[\d, -]*) \|(.*)\|$", re.MULTILINE)
# What a row without a test says.
NO_TEST = re.compile("superseded")


def numbers_of(cell):
  """"16-18, 20" as [16, 17, 18, 20]."""
  numbers = []
  for part in cell.split(","):
    first, _, last = part.partition("-")
    numbers += range(int(first), int(last or first) + 1)
  return numbers


def check_rows(text):
  rows = TABLE_ROW.findall(text)
  found = [number for cell, _ in rows for number in numbers_of(cell)]
  problems = [f"row {number} is there {found.count(number)} times"
              for number in ROWS if found.count(number) != 1]
  for cell, rest in rows:
    if not NAMED_TEST.search(rest) and not NAMED_TARGET.search(
        rest) and not NO_TEST.search(rest):
      problems.append(f"row {cell} names no test and does not say why")
  return problems


def main(document, *files):
  text = pathlib.Path(document).read_text()
  defined, targets = set(), set()
  for path in map(pathlib.Path, files):
    source = path.read_text()
    if path.suffix == ".cc":
      defined.update(DEFINED_TEST.findall(source))
    else:
      targets.update((str(path.parent), name)
                     for name in re.findall(r'name = "(\w+)"', source))
  problems = check_rows(text)
  named = NAMED_TEST.findall(text)
  problems += [f"there is no test {suite}.{name}"
               for suite, name in named if (suite, name) not in defined]
  problems += [f"there is no target //{package}:{name}"
               for package, name in NAMED_TARGET.findall(text)
               if (package, name) not in targets]
  if not named:
    problems.append("no test is named at all")
  if problems:
    sys.exit("\n".join(sorted(set(problems))))
  print(f"{len(named)} names of tests, all of them there")


if __name__ == "__main__":
  main(*sys.argv[1:])
