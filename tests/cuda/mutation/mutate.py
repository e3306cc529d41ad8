"""mutate.py SOURCE RESULT EDITS: a copy of a source with all of the edits.

EDITS is a list of {"name": ..., "find": ..., "replace": ...} in JSON. What is
to be replaced must be there exactly once: a mutant that is the true code, or
that changes more than one place, would prove nothing.
"""

import json
import sys


def main(source, result, edits):
  with open(source) as file:
    text = file.read()
  for edit in json.loads(edits):
    count = text.count(edit["find"])
    if count != 1:
      sys.exit("mutant %s: found %d times in %s, want once; see "
               "tests/cuda/mutation/BUILD.bazel:\n%s" %
               (edit["name"], count, source, edit["find"]))
    text = text.replace(edit["find"], edit["replace"])
  with open(result, "w") as file:
    file.write('#include "tests/cuda/mutation/mutant.h"\n' + text)


main(*sys.argv[1:])
