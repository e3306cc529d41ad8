#!/usr/bin/env python3
"""Table and plots of a comparison: report.py RESULT.json FOLDER

Writes neighbours.md and neighbours_*.png, .svg to FOLDER. Plots need
matplotlib; without it there is the table alone.
"""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

from results.markdown import short, table

try:
  import matplotlib
  from results.plots import pyplot, save
except ImportError:
  pyplot = None

_KINDS = {"ferry": "#d62728", "neighbour": "#1f77b4", "limit": "#7f7f7f"}
_INTO = {"fresh": "fresh memory", "own": "the caller's tensors"}


class Result:
  """A result file, with what is looked up in it."""

  def __init__(self, data):
    self.data = data
    self.contestants = data["contestants"]
    self.workloads = data["workloads"]
    self._cells = {(cell["contestant"], cell["workload"], cell["into"]): cell
                   for cell in data["results"]}

  def cell(self, contestant, workload, into):
    return self._cells.get((contestant["name"], workload["name"], into))

  def shown(self, into):
    """Contestants that have anything to show there."""
    return [contestant for contestant in self.contestants
            if any(self.cell(contestant, workload, into)
                   for workload in self.workloads)]


def both(values, scale=1):
  return " + ".join(short(value * scale) for value in values)


def about(result):
  rows = []
  for contestant in result.contestants:
    if contestant["reason"]:
      rows.append([contestant["title"], contestant["lacks"],
                   "takes no part: " + contestant["reason"].replace("|", "/"),
                   ""])
      continue
    rows.append([contestant["title"], contestant["lacks"],
                 short(contestant["connect_s"] * 1e3),
                 both(contestant["idle_cpu"], 100)])
  return table(["", "does not do", "connect ms",
                "idle, % of a core, sender + receiver"], rows)


def ratios(result, into):
  rows = []
  for contestant in result.shown(into):
    row = [contestant["title"]]
    for workload in result.workloads:
      cell = result.cell(contestant, workload, into)
      row.append(short(cell["time_over_ferry"]) if cell else "")
    rows.append(row)
  header = [""] + [workload["title"] for workload in result.workloads]
  return table(header, rows)


def details(result, workload):
  rows = []
  for into in _INTO:
    for contestant in result.shown(into):
      cell = result.cell(contestant, workload, into)
      if cell is None:
        continue
      rows.append([
          into, contestant["title"], short(cell["p50_s"] * 1e3),
          short(cell["p99_s"] * 1e3), short(cell["gb_per_s"]),
          both(cell["cpu_s_per_gb"]),
          both(cell["peak_over_payload"]) if workload["bytes"] >= 2**24 else "",
          short(cell["time_over_ferry"])])
  rows += [["", next(c["title"] for c in result.contestants
                     if c["name"] == failure["contestant"]),
            "failed: " + failure["reason"].replace("|", "/"), "", "", "", "",
            ""]
           for failure in result.data["failures"]
           if failure["workload"] == workload["name"]]
  return table(["into", "", "p50 ms", "p99 ms", "GB/s",
                "CPU s/GB, sender + receiver",
                "peak memory / payload, sender + receiver",
                "time / tensorferry's"], rows)


def write_markdown(result, folder):
  data = result.data
  rounds = sorted({workload["rounds"] for workload in result.workloads})
  parts = [
      "# tensorferry and its neighbours\n",
      "Written by `benchmarks/neighbours/run`; docs/performance.md says how it "
      "is measured.\n",
      f"{data['machine']}; {data['date']}; load average {data['load_before']} "
      f"before, {data['load_after']} after; medians of "
      f"{' or '.join(map(str, rounds))} interleaved rounds.\n",
      "## Who takes part\n", about(result)]
  for into, what in _INTO.items():
    parts += [f"## Time over tensorferry's, into {what}\n",
              "Over 1: tensorferry is ahead. Of contestants over TCP beside "
              "tensorferry over TCP; both with digests.\n",
              ratios(result, into)]
  parts.append("## In full\n")
  for workload in result.workloads:
    parts += [f"### {workload['title']}\n", details(result, workload)]
  (folder / "neighbours.md").write_text("\n".join(parts))


# ---- plots


def plot_ratios(result, folder):
  """A field for each contestant and message: blue where tensorferry is ahead.
  """
  for into, what in _INTO.items():
    contestants = [c for c in result.shown(into) if c["name"] != c["beside"]]
    if not contestants:
      continue
    figure, axes = pyplot.subplots(
        figsize=(12, 1.6 + 0.36 * len(contestants)), layout="constrained")
    values = [[(result.cell(c, w, into) or {}).get("time_over_ferry")
               for w in result.workloads] for c in contestants]
    colors = [[float("nan") if value is None else value for value in row]
              for row in values]
    image = axes.imshow(colors, aspect="auto", cmap="RdBu",
                        norm=matplotlib.colors.LogNorm(0.1, 10))
    for y, row in enumerate(values):
      for x, value in enumerate(row):
        if value is not None:
          axes.text(x, y, short(value), ha="center", va="center", fontsize=9,
                    color="black" if 0.25 < value < 4 else "white")
    axes.set_xticks(range(len(result.workloads)),
                    [w["title"].split(":")[0] for w in result.workloads],
                    rotation=20, ha="right")
    axes.set_yticks(range(len(contestants)), [c["title"] for c in contestants])
    axes.set_title(f"Time over tensorferry's, into {what} "
                   "(over 1, blue: tensorferry is ahead)")
    figure.colorbar(image, ax=axes, pad=0.01)
    save(figure, folder, f"neighbours_ratio_{into}")


def plot_speed(result, folder):
  """GB/s over the size of one tensor."""
  workloads = [w for w in result.workloads if w["tensors"] == 1]
  figure, all_axes = pyplot.subplots(1, 2, figsize=(15, 7), sharey=True,
                                     layout="constrained")
  colors = pyplot.get_cmap("tab20").colors
  for axes, (into, what) in zip(all_axes, _INTO.items()):
    for i, contestant in enumerate(result.contestants):
      points = [(w["bytes"], cell["gb_per_s"]) for w in workloads
                if (cell := result.cell(contestant, w, into))]
      if not points:
        continue
      kind = contestant["kind"]
      style = {"ferry": dict(linewidth=3, color="black"),
               "limit": dict(linestyle=":", linewidth=2)}.get(kind, {})
      if kind == "ferry":
        style["linestyle"] = {"ferry": "-", "ferry_no_digest": "--",
                              "ferry_tcp": "-."}.get(contestant["name"], ":")
      else:
        style["color"] = colors[i % len(colors)]
      axes.plot(*zip(*points), marker="o", markersize=4,
                label=contestant["title"], **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([w["bytes"] for w in workloads],
                    [w["title"] for w in workloads])
    axes.set_title(f"into {what}")
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=7, loc="lower right")
  all_axes[0].set_ylabel("GB/s, median")
  save(figure, folder, "neighbours_speed")


def plot_many(result, folder):
  """Milliseconds of messages of many tensors."""
  workloads = [w for w in result.workloads if w["tensors"] > 1]
  if not workloads:
    return
  figure, all_axes = pyplot.subplots(
      1, len(workloads), figsize=(5.5 * len(workloads), 8),
      layout="constrained", squeeze=False)
  for axes, workload in zip(all_axes[0], workloads):
    bars(axes, result, workload, lambda cell: [cell["p50_s"] * 1e3])
    axes.set_xscale("log")
    axes.set_title(workload["title"])
    axes.set_xlabel("ms, median")
  save(figure, folder, "neighbours_many")


def plot_cpu(result, folder):
  """CPU of both sides and peak memory, at 256 MiB or else the largest of one
  tensor."""
  single = [w for w in result.workloads if w["tensors"] == 1]
  workload = next((w for w in single if w["name"] == "256MiB"),
                  max(single or result.workloads, key=lambda w: w["bytes"]))
  figure, (cpu, memory) = pyplot.subplots(1, 2, figsize=(15, 9),
                                          layout="constrained")
  figure.suptitle(f"{workload['title']}: sender (dark) and receiver")
  bars(cpu, result, workload, lambda cell: cell["cpu_s_per_gb"])
  cpu.set_title("CPU seconds per GB")
  bars(memory, result, workload, lambda cell: cell["peak_over_payload"])
  memory.set_title("peak memory over payload")
  save(figure, folder, "neighbours_cost")


def bars(axes, result, workload, values_of):
  """A bar for each contestant and kind of memory, of one or two parts."""
  rows = [(c, into, cell) for c in result.contestants for into in _INTO
          if (cell := result.cell(c, workload, into))]
  rows.sort(key=lambda row: -sum(values_of(row[2])))
  for y, (contestant, _, cell) in enumerate(rows):
    left = 0
    for part, value in enumerate(values_of(cell)):
      axes.barh(y, value, left=left, color=_KINDS[contestant["kind"]],
                alpha=1 if part == 0 else 0.5)
      left += value
    axes.text(left, y, " " + short(left), va="center", fontsize=7)
  axes.set_yticks(range(len(rows)), [f"{c['title']}, {into}"
                                     for c, into, _ in rows], fontsize=7)
  axes.margins(x=0.12, y=0.01)


def main(path, folder):
  folder = pathlib.Path(folder)
  result = Result(json.loads(pathlib.Path(path).read_text()))
  write_markdown(result, folder)
  if pyplot is None:
    print("no plots: matplotlib is not here", file=sys.stderr)
    return
  for plot in (plot_ratios, plot_speed, plot_many, plot_cpu):
    plot(result, folder)


if __name__ == "__main__":
  if len(sys.argv) != 3:
    sys.exit(__doc__)
  main(*sys.argv[1:])
