"""Runs mutants and the true code, and says who failed which tests how often.

run_table.py DIRECTORY TABLE.json... [--runs=N] [--write=FILE]

A test counts as failed in a run if it fails at both lags of the software GPU.
Ends with 1 unless each mutant failed all of its tests, and the true code passed
them, in every run. --write puts the table between the marks in FILE.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys

LAGS = ("late", "at_once")
BEGIN = "<!-- tools/mutation_table writes from here -->\n"
END = "<!-- to here -->\n"


def run_once(program, mutant, tests):
  """test -> "failed" or "passed" at both lags, or what it did instead."""
  run = subprocess.run(
      [program,
       "--gtest_filter=" + ":".join("*%s/*" % test for test in tests)],
      env=dict(os.environ, MUTANT=mutant), stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL, text=True, timeout=300)
  ends = {}
  for test in tests:
    said = [end for lag in LAGS for end in re.findall(
        r"^\[ *(OK|FAILED) *\] \w+/%s/%s \(\d+ ms\)|"
        r"^\[ *(FAILED) *\] \w+/%s/%s, where .* \(\d+ ms\)" %
        ((re.escape(test), lag) * 2), run.stdout, re.MULTILINE)]
    said = [first or second for first, second in said]
    if said == ["FAILED"] * len(LAGS):
      ends[test] = "failed"
    elif said == ["OK"] * len(LAGS) and run.returncode == 0:
      ends[test] = "passed"
    else:
      ends[test] = "%s, exit code %d" % (" ".join(said), run.returncode)
  return ends


def run(program, mutant, tests, runs):
  """test -> how often it ended how."""
  ends = {test: collections.Counter() for test in tests}
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for one in pool.map(lambda _: run_once(program, mutant, tests),
                        range(runs)):
      for test, end in one.items():
        ends[test][end] += 1
  return ends


def rows_of(directory, path, runs):
  """(row, test, ends of the mutant, ends of the true code)"""
  with open(path) as file:
    table = json.load(file)
  program = os.path.join(directory, table["program"])
  tests = sorted({test for row in table["rows"] for test in row["tests"]})
  true_ends = run(program, "", tests, runs)
  for row in table["rows"]:
    ends = run(program, row["name"], row["tests"], runs)
    for test in row["tests"]:
      yield row, test, ends[test], true_ends[test]


def write(path, lines):
  with open(path) as file:
    head, rest = file.read().split(BEGIN)
  with open(path, "w") as file:
    file.write(head + BEGIN + "".join(lines) + END + rest.split(END)[1])


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("directory")
  parser.add_argument("tables", nargs="+")
  parser.add_argument("--runs", type=int, default=2)
  parser.add_argument("--write")
  options = parser.parse_args()
  good = True
  lines = ["| edge | test | without the edge it failed | with it, passed |\n",
           "| --- | --- | --- | --- |\n"]
  for table in options.tables:
    for row, test, mutant, true in rows_of(options.directory, table,
                                           options.runs):
      lines.append("| %s | %s | %d of %d | %d of %d |\n" % (
          row["edge"], test, mutant["failed"], options.runs, true["passed"],
          options.runs))
      print(row["name"], lines[-1], end="", flush=True)
      if (mutant["failed"], true["passed"]) != (options.runs, options.runs):
        good = False
        print("  WRONG: the mutant %s, the true code %s" %
              (dict(mutant), dict(true)))
  if options.write:
    write(options.write, lines)
  sys.exit(not good)


main()
