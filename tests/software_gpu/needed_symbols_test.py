"""Tests of needed_symbols.py.

  needed_symbols_test.py NEEDED_SYMBOLS PROVIDED LIBRARY...

The last two as needed_symbols.py has them.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT, PROVIDED, *LIBRARIES = sys.argv[1:]


class NeededSymbolsTest(unittest.TestCase):

  def check(self, lines):
    """What the script does if `lines` are all that is provided."""
    path = pathlib.Path(os.environ.get("TEST_TMPDIR", tempfile.gettempdir()),
                        "symbols.txt")
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return subprocess.run([sys.executable, SCRIPT, str(path), *LIBRARIES],
                          check=False, capture_output=True, text=True)

  def setUp(self):
    self.lines = pathlib.Path(PROVIDED).read_text(encoding="ascii").splitlines()

  def test_what_is_provided_is_all_that_is_needed(self):
    done = self.check(self.lines)
    self.assertEqual((done.returncode, done.stderr), (0, ""))

  def test_symbols_and_libraries_that_are_new_are_named_with_what_to_do(self):
    new = ["libcudart.so.13 libcudart.so.13 cudaMalloc", "libcufile.so.0 - -"]
    done = self.check([line for line in self.lines if line not in new])
    self.assertEqual(done.returncode, 1)
    *listed, what_to_do = done.stderr.splitlines()
    self.assertEqual(listed, [f"needed, and not in symbols.txt: {line}"
                              for line in new])
    self.assertIn("a line in symbols.txt", what_to_do)

  def test_a_symbol_that_is_no_longer_needed_is_named(self):
    old = "libcudart.so.13 libcudart.so.13 cudaOfOldLibtorch"
    done = self.check(self.lines + [old])
    self.assertEqual(done.returncode, 1)
    self.assertIn(f"in symbols.txt, and no longer needed: {old}\n", done.stderr)


if __name__ == "__main__":
  unittest.main(argv=sys.argv[:1])
