"""What the contestants are built and installed from."""

import os
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.append(str(FOLDER.parent))

from peer_process import peer

ROOT = peer.ROOT
DEFAULT_FOLDER = pathlib.Path(
    os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() /
    ".cache") / "tensorferry/neighbours"


class Unavailable(Exception):
  """Why something cannot take part here."""


def _run(command, **kwargs):
  done = subprocess.run(command, stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT, text=True, **kwargs)
  if done.returncode != 0:
    lines = [line for line in done.stdout.split("\n") if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines
    raise Unavailable(f"{command[0]}: {errors[-1].strip() if errors else ''}")
  return done.stdout


def build_contestant():
  return peer.build("//benchmarks/neighbours:contestant")


class Environment:
  """A throw-away virtual environment, made on first use."""

  def __init__(self, folder, install):
    self.folder = pathlib.Path(folder)
    self.install = install  # False: only what is there already
    self._outcomes = {}

  @property
  def python(self):
    return str(self.folder / "bin/python")

  def need(self, name):
    """Installs requirements/NAME.txt. Raises Unavailable, each time alike."""
    if name not in self._outcomes:
      try:
        self._outcomes[name] = self._install(name)
      except Unavailable as reason:
        self._outcomes[name] = reason
    if self._outcomes[name]:
      raise Unavailable(f"{name}: {self._outcomes[name]}")

  def plot(self, script, path, folder):
    """Runs a script that plots the results in `path`, by the environment's
    Python, which has matplotlib."""
    self.need("base")
    subprocess.run([self.python, str(script), str(path), str(folder)],
                   check=True)

  def build_plugin(self, source):
    """Builds a plugin against UCX's wheel; returns where it is."""
    ucx = pathlib.Path(_run([
        self.python, "-c",
        "import libucx, os; print(os.path.dirname(libucx.__file__))"]).strip())
    library = self.folder / (source + ".so")
    _run(["g++", "-std=c++20", "-O2", "-shared", "-fPIC", f"-I{ROOT}",
          f"-I{ucx}/include", str(FOLDER / source), "-o", str(library),
          f"-L{ucx}/lib", "-lucp", "-lucs", f"-Wl,-rpath,{ucx}/lib"])
    return library

  def _install(self, name):
    requirements = FOLDER / "requirements" / (name + ".txt")
    installed = self.folder / (name + ".installed")
    if installed.exists() and installed.read_text() == requirements.read_text():
      return None
    if not self.install:
      return Unavailable("not installed, and --no-install")
    if not os.path.exists(self.python):
      _run([sys.executable, "-m", "venv", str(self.folder)])
    print(f"installing {requirements.relative_to(ROOT)}", flush=True)
    _run([self.python, "-m", "pip", "install", "--quiet", "--no-deps",
          "--require-hashes", "--only-binary=:all:", "--no-cache-dir",
          "-r", str(requirements)])
    installed.write_text(requirements.read_text())
    return None
