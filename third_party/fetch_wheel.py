"""Fetches one locked wheel with pip and unpacks a part of it.

  fetch_wheel.py LOCK_FILE DISTRIBUTION STRIP_PREFIX PATH_PREFIX...

Files whose path starts with one of PATH_PREFIX land in the current folder,
without STRIP_PREFIX. The last line on stderr says what went wrong, if it did.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_25_x86_64",
             "manylinux2014_x86_64", "manylinux_2_17_x86_64", "any")


def locked_line(lock_file, distribution):
  for line in pathlib.Path(lock_file).read_text().splitlines():
    if line.startswith(distribution + "=="):
      return line
  sys.exit(f"{distribution} is not in {lock_file}")


def download(requirement, folder):
  requirements = pathlib.Path(folder, "requirements.txt")
  requirements.write_text(requirement + "\n")
  command = [sys.executable, "-m", "pip", "download", "--no-deps",
             "--require-hashes", "--only-binary=:all:", "--quiet",
             "--python-version=311", "--implementation=cp", "--abi=cp311",
             "--abi=abi3",
             "--abi=none", f"--dest={folder}", f"--requirement={requirements}"]
  command += [f"--platform={name}" for name in PLATFORMS]
  if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
    sys.exit(f"pip could not download {requirement.split()[0]}")
  return next(pathlib.Path(folder).glob("*.whl"))


def main(lock_file, distribution, strip_prefix, *path_prefixes):
  with tempfile.TemporaryDirectory(dir=".") as folder:
    wheel = zipfile.ZipFile(
        download(locked_line(lock_file, distribution), folder))
    for member in wheel.infolist():
      if not member.is_dir() and member.filename.startswith(path_prefixes):
        member.filename = member.filename.removeprefix(strip_prefix)
        wheel.extract(member)


if __name__ == "__main__":
  main(*sys.argv[1:])
