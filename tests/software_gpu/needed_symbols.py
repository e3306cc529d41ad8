"""What libtorch's CUDA libraries need of NVIDIA's, against what we provide.

  needed_symbols.py PROVIDED LIBRARY...

PROVIDED is symbols.txt: lines "library version-node symbol", "-" for no node,
and "library - -" for each library that is loaded. LIBRARY... are all shared
libraries of libtorch. Fails with the lines that PROVIDED lacks or has for
nothing; with "-" for PROVIDED it prints all of them, which is how to write
symbols.txt anew.
"""

import pathlib
import re
import subprocess
import sys

# Where NVIDIA gives its symbols no version, or one that is not the library.
BY_PREFIX = {
    "cuFile": "libcufile.so.0",
    "cusparseLt": "libcusparseLt.so.0",
    "nccl": "libnccl.so.2",
    "nvshmem": "libnvshmem_host.so.3",
}
NODE_OF_LIBRARY = re.compile(r"libcu.*\.so\.\d+|libnv.*\.so\.\d+")
# Of the C and C++ run-time libraries.
SYSTEM_NODE = re.compile(r"(GLIBC|GLIBCXX|CXXABI|GCC|GOMP|OMP|GOACC)_.*")
SYSTEM_LIBRARY = re.compile(r"(ld-linux-x86-64|lib(c|m|dl|rt|pthread|stdc\+\+|"
                            r"gcc_s|gomp))\.so\.\d+")
# Named where a library may be absent; the code looks before it calls.
WEAK = "wv"


def dynamic_symbols(library, kind):
  """(type letter, name, version node) of each symbol."""
  output = subprocess.run(["nm", "-D", kind, library], check=True,
                          capture_output=True, text=True).stdout
  for line in output.splitlines():
    *_, letter, symbol = line.split()
    name, _, node = symbol.partition("@")
    yield letter, name, node.lstrip("@")


def loaded_libraries(library):
  output = subprocess.run(["readelf", "-dW", library], check=True,
                          capture_output=True, text=True).stdout
  return re.findall(r"\(NEEDED\).*\[(.*)\]", output)


def library_of(name, node):
  """The library that has to provide a symbol; None if nobody knows."""
  if NODE_OF_LIBRARY.fullmatch(node):
    return node
  return next((library for prefix, library in BY_PREFIX.items()
               if name.startswith(prefix)), None)


def needed(libraries):
  of_libtorch = {name for library in libraries
                 for _, name, _ in dynamic_symbols(library, "--defined-only")}
  names = {pathlib.Path(library).name for library in libraries}
  lines = {f"{loaded} - -" for library in libraries
           for loaded in loaded_libraries(library)
           if loaded not in names and not SYSTEM_LIBRARY.fullmatch(loaded)}
  for library in libraries:
    for letter, name, node in dynamic_symbols(library, "--undefined-only"):
      if letter in WEAK or SYSTEM_NODE.fullmatch(node):
        continue
      provider = library_of(name, node)
      if not provider and name in of_libtorch:
        continue
      lines.add(f"{provider or 'unknown'} {node or '-'} {name}")
  return lines


def main(provided, *libraries):
  lines = needed(libraries)
  if provided == "-":
    print("\n".join(sorted(lines)))
    return
  with open(provided, encoding="ascii") as file:
    known = set(file.read().splitlines())
  if len(lines) < 100:
    sys.exit(f"only {len(lines)} symbols: are these libtorch's libraries?")
  problems = [f"needed, and not in symbols.txt: {line}"
              for line in sorted(lines - known)]
  problems += [f"in symbols.txt, and no longer needed: {line}"
               for line in sorted(known - lines)]
  if problems:
    sys.exit("\n".join(problems + [
        "Look at the new ones: what tests reach must be real, the rest become "
        "stubs by a line in symbols.txt (needed_symbols.py says how)."]))


if __name__ == "__main__":
  main(*sys.argv[1:])
