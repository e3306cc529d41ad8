"""matplotlib without a screen, and files that are alike from run to run."""

import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot

matplotlib.rcParams["svg.hashsalt"] = "tensorferry"


def save(figure, folder, name):
  figure.savefig(folder / f"{name}.png", dpi=110)
  figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
  pyplot.close(figure)
