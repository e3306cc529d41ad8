"""Figures and tables of reports in Markdown."""


def short(value):
  """Three digits that matter; nothing for None."""
  if value is None:
    return ""
  if abs(value) >= 100:
    return f"{value:,.0f}"
  return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.3g}"


def table(header, rows):
  lines = ["| " + " | ".join(cells) + " |"
           for cells in [header, ["---"] * len(header)] + list(rows)]
  return "\n".join(lines) + "\n"
