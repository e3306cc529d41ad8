"""One process of a contestant that Python code calls; contestant.cc's twin.

  contestant.py NAME sender|receiver READY

The protocol is contestant.cc's. NAME is a module beside this file that has

  listen() -> acceptor          with .address, a string, and .accept()
  connect(address) -> sender    with .send(arrays): returns when the receiver
                                has said, or is known, to have them all

and whose acceptor.accept() gives a receiver with

  .arm(sizes, own)   gets ready: own is a list of arrays to receive into, or
                     None for memory allocated when the message comes
  .take() -> list    waits for it; of whatever has the buffer interface

Either may have .load(arrays) (sender) or .load(own) (receiver), called when
there are other arrays. Only the time to connect counts it.
"""

import importlib
import json
import os
import resource
import sys
import time

import numpy as np
import xxhash


def fill(sizes):
  """The very tensors of FillSizes in two_process/workload.cc."""
  arrays = []
  for i, size in enumerate(sizes):
    array = np.arange(size // 4, dtype=np.uint32)
    array += np.uint32(i * size % 2**32)
    array *= np.uint32(2654435761)
    arrays.append(array)
  return arrays


def fingerprint(arrays):
  digest = xxhash.xxh3_64()
  for array in arrays:
    digest.update(memoryview(array).cast("B"))
  return f"{digest.intdigest():016x}"


def usage():
  used = resource.getrusage(resource.RUSAGE_SELF)
  return (used.ru_utime + used.ru_stime, used.ru_nvcsw + used.ru_nivcsw)


def since(before, messages):
  now = usage()
  return {"cpu_seconds": (now[0] - before[0]) / messages,
          "context_switches": (now[1] - before[1]) / messages}


class SendingEnd:

  def __init__(self, module, ready):
    self.module, self.ready = module, ready

  def connect(self, command):
    first = fill([4])
    begin = time.perf_counter()
    self.sender = self.module.connect(command["address"])
    self.prepare(first)
    self.sender.send(first)
    return {"seconds": time.perf_counter() - begin}

  def load(self, command):
    self.arrays = None
    self.arrays = fill(command["sizes"])
    self.fingerprint = fingerprint(self.arrays)
    self.prepare(self.arrays)
    return {}

  def prepare(self, arrays):
    if hasattr(self.sender, "load"):
      self.sender.load(arrays)

  def turn(self, command):
    messages = 1 + command["messages"]
    seconds = []
    before = usage()
    for _ in range(messages):
      if os.read(self.ready, 1) != b"r":
        raise EOFError("the receiver is gone")
      begin = time.perf_counter()
      self.sender.send(self.arrays)
      seconds.append(time.perf_counter() - begin)
    return dict(since(before, messages), seconds=seconds[1:],
                fingerprint=self.fingerprint)


class ReceivingEnd:

  def __init__(self, module, ready):
    self.module, self.ready = module, ready
    self.acceptor = module.listen()
    self.sizes, self.own, self.turns = [], None, 0
    say({"address": self.acceptor.address})

  def connect(self, command):
    self.receiver = self.acceptor.accept()
    own = fill([4])
    self.prepare(own)
    self.receiver.arm([4], own if self.only_own() else None)
    self.receiver.take()
    return {}

  def only_own(self):
    return getattr(self.module, "ONLY_OWN", False)

  def load(self, command):
    self.sizes, self.own = command["sizes"], None
    self.prepare([])
    return {}

  def prepare(self, own):
    if hasattr(self.receiver, "load"):
      self.receiver.load(own)

  def turn(self, command):
    messages = 1 + command["messages"]
    own = self.scribbled() if command["reuse"] else None
    taken = None
    before = usage()
    for _ in range(messages):
      taken = None  # while nothing is under way
      self.receiver.arm(self.sizes, own)
      os.write(self.ready, b"r")
      taken = self.receiver.take()
    reply = since(before, messages)
    return dict(reply, fingerprint=fingerprint(taken))

  def scribbled(self):
    """The caller's arrays; last turn's bytes must not pass for this one's."""
    self.turns += 1
    if self.own is None:
      self.own = [np.empty(size // 4, np.uint32) for size in self.sizes]
      self.prepare(self.own)
    for array in self.own:
      array.view(np.uint8).fill(self.turns % 256)
    return self.own


def say(line):
  # Libraries print to standard output too.
  os.write(OUTPUT, (json.dumps(line) + "\n").encode())


def serve(name, role, ready):
  module = importlib.import_module("neighbour_" + name.split(":")[0])
  if ":" in name:
    module.VARIANT = name.split(":")[1]
  # torch.multiprocessing has a descriptor for each tensor.
  most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
  resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
  end = (SendingEnd if role == "sender" else ReceivingEnd)(module, ready)
  for line in sys.stdin:
    command = json.loads(line)
    say(getattr(end, command["do"])(command))


if __name__ == "__main__":
  OUTPUT = os.dup(1)
  os.dup2(2, 1)
  try:
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
  except Exception as error:  # pylint: disable=broad-except
    say({"error": f"{type(error).__name__}: {error}"})
    os._exit(1)
  os._exit(0)  # several neighbours wait for the other side as they go
