#!/usr/bin/env python3
"""The plot of a scale.json: plot.py SCALE.json FOLDER"""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

from results.plots import pyplot, save


def main(path, folder):
  summary = json.loads(pathlib.Path(path).read_text())
  figure, all_axes = pyplot.subplots(1, 2, figsize=(14, 5.5),
                                     layout="constrained")
  for axes, kind in zip(all_axes, ("sessions", "tensors")):
    for entry in summary[kind].values():
      counts = [int(count) for count in entry["values"]]
      values = list(entry["values"].values())
      middle = values[len(values) // 2]
      if middle <= 0:
        continue
      axes.plot(counts, [value / middle for value in values], marker="o",
                label=f"{entry['title']}: {middle:.3g} {entry['unit']}")
    axes.axvline(counts[len(counts) // 2], color="gray", alpha=0.3)
    axes.axhline(1.5, color="red", linestyle="--", alpha=0.6)
    axes.text(counts[0], 1.53, "1.5", color="red")
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_yscale("log")
    axes.set_ylim(top=max(2, axes.get_ylim()[1]))
    axes.set_xlabel({"sessions": "sessions of two processes",
                     "tensors": "tensors of a message"}[kind])
    axes.set_ylabel("cost per unit over that at the middle size")
    axes.set_title(f"One of many {kind}")
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8, title="at the middle size", loc="best")
  save(figure, pathlib.Path(folder), "scale")


if __name__ == "__main__":
  if len(sys.argv) != 3:
    sys.exit(__doc__)
  main(*sys.argv[1:])
