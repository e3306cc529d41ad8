"""tools/bazel in front of stand-ins for dpkg-query, apt-get, sudo and Bazel."""

import os
import pathlib
import pty
import re
import subprocess
import tempfile
import unittest

WRAPPER = pathlib.Path("tools/bazel").absolute()


def packages():
  """Package -> variable that names another installation, or None."""
  table = re.search(r"cat <<'END'\n(.*?)END\n", WRAPPER.read_text(), re.S)
  rows = (line.split() for line in table[1].splitlines())
  return {row[0]: row[1] if len(row) > 1 else None for row in rows}


class BazelWrapperTest(unittest.TestCase):

  def setUp(self):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.machine = pathlib.Path(folder.name)
    self.log = self.machine / "log"
    self.log.touch()
    self.install(packages())
    self.stand_in("apt-get", 'echo "apt-get $*" >>"$LOG"; exit "${APT:-0}"')
    self.stand_in("sudo", 'exec "$@"')
    self.stand_in("bazel-real", 'echo "bazel $*" >>"$LOG"; echo from-bazel')

  def stand_in(self, name, script):
    path = self.machine / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)

  def install(self, names):
    """What dpkg-query knows of; it fails if asked for others, as dpkg does."""
    status = "".join(f"{name} installed\\n" for name in names)
    self.stand_in("dpkg-query", f"printf '{status}'; exit 1")

  def environment(self, **more):
    return {
        "PATH": f"{self.machine}:{os.environ['PATH']}",
        "LOG": str(self.log),
        "BAZEL_REAL": str(self.machine / "bazel-real"),
        **more,
    }

  def run_wrapper(self, **more):
    return subprocess.run(
        [WRAPPER, "test", "//..."], env=self.environment(**more),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

  def calls(self):
    return self.log.read_text().splitlines()

  def test_does_nothing_but_call_bazel_when_all_is_there(self):
    result = self.run_wrapper()
    self.assertEqual(result.returncode, 0)
    self.assertEqual(self.calls(), ["bazel test //..."])
    self.assertEqual((result.stdout, result.stderr), ("from-bazel\n", ""))

  def test_says_what_is_missing_and_installs_it(self):
    self.install(set(packages()) - {"libxxhash-dev", "pkg-config"})
    result = self.run_wrapper()
    self.assertEqual(result.returncode, 0)
    self.assertIn("missing: libxxhash-dev pkg-config\n", result.stderr)
    self.assertEqual(self.calls(), [
        "apt-get update",
        "apt-get install -y --no-install-recommends libxxhash-dev pkg-config",
        "bazel test //...",
    ])
    self.assertEqual(result.stdout, "from-bazel\n")

  def test_prints_the_command_instead_when_it_must_not_install(self):
    self.install(set(packages()) - {"libxxhash-dev"})
    result = self.run_wrapper(TENSORFERRY_NO_INSTALL="1")
    self.assertRegex(result.stderr, r"install them with: .*libxxhash-dev\n")
    self.assertEqual(self.calls(), ["bazel test //..."])

  def test_a_failed_installation_ends_it(self):
    self.install([])
    result = self.run_wrapper(APT="100")
    self.assertEqual(result.returncode, 1)
    self.assertIn("this failed:", result.stderr)
    self.assertEqual(self.calls(), ["apt-get update"])

  def test_needs_no_package_for_what_is_installed_elsewhere(self):
    variables = [name for name in packages().values() if name]
    self.install(name for name, root in packages().items() if not root)
    result = self.run_wrapper(**{name: "/opt/x" for name in variables})
    self.assertEqual(result.stderr, "")
    self.assertEqual(self.calls(), ["bazel test //..."])

  def test_asks_first_on_a_terminal(self):
    self.install(set(packages()) - {"libxxhash-dev"})
    for answer, installs in ((b"n\n", False), (b"\n", True)):
      self.log.write_text("")
      ours, theirs = pty.openpty()
      with subprocess.Popen([WRAPPER, "info"], env=self.environment(),
                            stdin=theirs, stdout=theirs, stderr=theirs):
        os.close(theirs)
        shown = b""
        while b"[Y/n]" not in shown:
          shown += os.read(ours, 1024)
        os.write(ours, answer)
      os.close(ours)
      self.assertEqual("apt-get update" in self.calls(), installs)
      self.assertIn("bazel info", self.calls())


if __name__ == "__main__":
  unittest.main()
