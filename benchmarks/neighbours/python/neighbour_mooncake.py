"""Mooncake's Transfer Engine over TCP: one batch of writes.

Both sides' memory is registered, and the receiver's addresses are told to the
sender, before any time counts. The sender's call returns when all is written;
the receiver is told by a byte on a connection beside it, whose writing is
part of the time.
"""

import socket

from mooncake.engine import TransferEngine

from side import Side

ONLY_OWN = True


def make_engine():
  engine = TransferEngine()
  if engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") != 0:
    raise RuntimeError("TransferEngine.initialize failed")
  return engine


class Memory:
  """What an engine has registered of ours."""

  def __init__(self, engine):
    self.engine, self.addresses = engine, []

  def register(self, arrays):
    if self.addresses:
      self.engine.batch_unregister_memory(self.addresses)
    self.addresses = [array.ctypes.data for array in arrays]
    if arrays and self.engine.batch_register_memory(
        self.addresses, [array.nbytes for array in arrays]) != 0:
      raise RuntimeError("batch_register_memory failed")


class Sender:

  def __init__(self, address):
    self.side = Side(
        socket.create_connection(("127.0.0.1", int(address))))
    self.engine = make_engine()
    self.memory = Memory(self.engine)
    self.target = self.side.hear()
    self.theirs = None

  def load(self, arrays):
    self.theirs = None
    self.memory.register(arrays)
    self.lengths = [array.nbytes for array in arrays]

  def send(self, arrays):
    del arrays
    if self.theirs is None:  # in a message that does not count
      self.theirs = self.side.hear()
    if self.engine.batch_transfer_sync_write(
        self.target, self.memory.addresses, self.theirs, self.lengths) != 0:
      raise RuntimeError("batch_transfer_sync_write failed")
    self.side.wire.send(b"!")


class Receiver:

  def __init__(self, engine, side):
    self.memory, self.side = Memory(engine), side

  def load(self, own):
    self.memory.register(own)
    if own:
      self.side.tell(self.memory.addresses)

  def arm(self, sizes, own):
    del sizes
    self.own = own

  def take(self):
    self.side.wire.recv(1)
    return self.own


class Acceptor:

  def __init__(self):
    self.socket = socket.create_server(("127.0.0.1", 0))
    self.address = str(self.socket.getsockname()[1])
    self.engine = make_engine()

  def accept(self):
    side = Side(self.socket.accept()[0])
    side.tell(f"127.0.0.1:{self.engine.get_rpc_port()}")
    return Receiver(self.engine, side)


def listen():
  return Acceptor()


def connect(address):
  return Sender(address)
