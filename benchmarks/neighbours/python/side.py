"""What two processes tell each other beside a neighbour."""

import pickle
import struct


class Side:
  """A TCP connection, for what is told before a turn."""

  def __init__(self, wire):
    self.wire = wire

  def tell(self, what):
    data = pickle.dumps(what)
    self.wire.sendall(struct.pack("<Q", len(data)) + data)

  def hear(self):
    length, = struct.unpack("<Q", self._read(8))
    return pickle.loads(self._read(length))

  def _read(self, length):
    data = b""
    while len(data) < length:
      part = self.wire.recv(length - len(data))
      if not part:
        raise EOFError("the other side is gone")
      data += part
    return data
