"""Checks the rooms' arrows: layers.py EDGES CONTROL_CLIENT NETWORK PUBLIC."""

import pathlib
import re
import sys

# Room -> rooms that it may depend on. third_party is open to all but where
# FORBIDDEN says otherwise.
ALLOWED = {
    "base": set(),
    "serialization": {"base"},
    "transport": {"base"},
    "pool": {"base"},
    "channel": {"base", "pool"},
    "transfer": {"base", "serialization", "transport", "channel", "pool"},
    "control": {"base"},
    "session": {"base", "control", "serialization", "transfer"},
    "catalog": {"base", "control", "serialization", "transfer", "session"},
    "cli": {"base", "control", "serialization", "transfer", "session",
            "catalog"},
    # Nothing depends on it.
    "cuda": {"base", "channel", "serialization", "transfer", "transport"},
}

# Room -> third-party packages that it must not see directly.
FORBIDDEN = {
    "base": {"libtorch", "tensorpipe", "grpc", "protobuf"},
    "pool": {"libtorch", "tensorpipe", "grpc", "protobuf"},
    "serialization": {"grpc"},
    "transport": {"grpc"},
    "channel": {"grpc"},
    "transfer": {"grpc"},
    "control": {"libtorch", "tensorpipe"},
}

# Of our own, besides the front door: the command itself.
PUBLIC = {"//cli:tensorferry"}

EDGE = re.compile(r'"([^"]+)" -> "([^"]+)"')


def room_of(label):
  """"//control:values" -> "control"; None outside our rooms."""
  match = re.match(r"//([^/:]+)", label)
  return match.group(1) if match else None


def third_party_of(label):
  match = re.match(r"//third_party/([^/:]+)", label)
  return match.group(1) if match else None


def check_edges(text):
  edges = EDGE.findall(text)
  rooms = {room_of(source) for source, _ in edges}
  problems = [f"no edge leaves {room}/: the query is empty there"
              for room in ALLOWED if room not in rooms]
  for source, target in edges:
    here, there = room_of(source), room_of(target)
    if here not in ALLOWED or here == there:
      continue
    if there in ALLOWED and there not in ALLOWED[here]:
      problems.append(f"{source} depends on {target}: no arrow goes from "
                      f"{here}/ to {there}/")
    if third_party_of(target) in FORBIDDEN.get(here, ()):
      problems.append(f"{source} depends on {target}: {here}/ must not know it")
  return problems


def check_absent(labels, name, pattern):
  if len(labels) < 5:
    return [f"the closure of {name} has only {len(labels)} targets"]
  return [f"{label} is in the closure of {name}"
          for label in labels if re.search(pattern, label)]


def check_public(labels):
  """Users come in through the root package only."""
  if "//third_party/absl:absl" not in labels:
    return ["the query for public targets is empty"]
  return [f"{label} is public: the front door is the root BUILD.bazel"
          for label in labels
          if room_of(label) not in (None, "third_party")
          and label not in PUBLIC]


def main(edges, control_client, network, public):
  read = lambda path: pathlib.Path(path).read_text()
  problems = check_edges(read(edges))
  problems += check_absent(read(control_client).split(), "//:control_client",
                           r"libtorch|tensorpipe|cuda")
  problems += check_absent(read(network).split(), "//cli:tensorferry",
                           r"torch_rpc|^//cuda|libtorch_cuda")
  problems += check_public(read(public).split())
  if problems:
    sys.exit("\n".join(sorted(set(problems))))
  print(f"{len(EDGE.findall(read(edges)))} edges, all of them allowed")


if __name__ == "__main__":
  main(*sys.argv[1:])
