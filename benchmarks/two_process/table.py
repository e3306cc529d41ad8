#!/usr/bin/env python3
"""Prints a Markdown table of docs/performance.md: table.py RESULT.json

RESULT.json is what two_process or serialize_benchmark has written for
--benchmark_out=RESULT.json --benchmark_out_format=json.
"""

import json
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

from results.markdown import short, table

# Counter prefix -> what the table calls it, in the order of its rows.
CONTESTANTS = {
    "bare": "bare tensorpipe",
    "bare_packed": "bare, packed by hand",
    "ferry": "tensorferry, digest off",
    "ferry_digest": "tensorferry",
    "ferry_lease": "tensorferry, leased",
    "ferry_lease_read": "tensorferry, leased and read",
}
MESSAGES = {
    "1000x4KiB": "1,000 x 4 KiB",
    "10000x256B": "10,000 x 256 B",
    "model": "the model",
}
HEADER = ["message", "into", "", "GB/s", "p50 ms", "p99 ms",
          "CPU s/GB sender + receiver", "time / bare"]


def message_name(name):
  return MESSAGES.get(name, name.replace("KiB", " KiB").replace("MiB", " MiB")
                      .replace("GiB", " GiB"))


def rows_of(run):
  """One benchmark is a message and a kind of memory; a row each contestant."""
  _, _, message, memory = run["name"].split("/")[:4]
  first = [message_name(message), memory]
  for prefix, contestant in CONTESTANTS.items():
    if prefix + ".p50_us" not in run:
      continue
    value = lambda what: run[f"{prefix}.{what}"]
    yield first + [
        contestant,
        short(value("gb_per_s")),
        short(value("p50_us") / 1e3),
        short(value("p99_us") / 1e3),
        short(value("sender_cpu_s_per_gb")) + " + " +
        short(value("receiver_cpu_s_per_gb")),
        short(value("time_over_bare")),
    ]
    first = ["", ""]


def print_table(path, runs):
  print(f"### {path}\n")
  print(table(HEADER, [cells for run in runs for cells in rows_of(run)]))


def print_items(runs):
  """Of benchmarks that count tensors: BM_Serialize/150."""
  names = list(dict.fromkeys(run["name"].split("/")[0] for run in runs))
  counts = list(dict.fromkeys(run["name"].split("/")[1] for run in runs))
  each = {tuple(run["name"].split("/")[:2]): 1e9 / run["items_per_second"]
          for run in runs}
  rows = [[name.removeprefix("BM_")] +
          [short(each[name, count]) for count in counts] for name in names]
  print(table(["ns a tensor"] + [f"{int(count):,}" for count in counts], rows),
        end="")


def main(result):
  with open(result) as file:
    benchmarks = json.load(file)["benchmarks"]
  failed = [run for run in benchmarks if run.get("error_occurred")]
  if failed:
    sys.exit(f"{failed[0]['name']}: {failed[0]['error_message']}")
  if all(run["name"].startswith("BM_") for run in benchmarks):
    return print_items(benchmarks)
  paths = {}
  for run in benchmarks:
    paths.setdefault("/".join(run["name"].split("/")[:2]), []).append(run)
  for path, runs in paths.items():
    print_table(path, runs)


if __name__ == "__main__":
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  main(sys.argv[1])
