"""NIXL over UCX: one WRITE from registered memory into registered memory.

Both sides' memory is registered, and the receiver's descriptors are told to
the sender, before any time counts. The sender knows of the arrival by the
state of the transfer, the receiver by the notification that goes with it.
"""

import socket

from nixl_cu13._api import nixl_agent, nixl_agent_config

from side import Side

ONLY_OWN = True
_DONE = b"arrived"


def make_agent(name):
  return nixl_agent(name, nixl_agent_config(backends=["UCX"]))


def descriptors(arrays):
  return [(array.ctypes.data, array.nbytes, 0) for array in arrays]


def register(agent, arrays):
  named = [piece + ("",) for piece in descriptors(arrays)]
  return agent.register_memory(named, mem_type="DRAM")


class Sender:

  def __init__(self, address):
    self.side = Side(socket.create_connection(("127.0.0.1", int(address))))
    self.agent = make_agent("sender")
    self.agent.add_remote_agent(self.side.hear())
    self.side.tell(self.agent.get_agent_metadata())
    self.registered = self.transfer = None

  def load(self, arrays):
    if self.transfer is not None:
      self.agent.release_xfer_handle(self.transfer)
      self.agent.deregister_memory(self.registered)
    self.transfer = self.registered = None
    if arrays:
      self.registered = register(self.agent, arrays)

  def send(self, arrays):
    if self.transfer is None:
      self.prepare(arrays)
    state = self.agent.transfer(self.transfer)
    while state == "PROC":
      state = self.agent.check_xfer_state(self.transfer)
    if state != "DONE":
      raise RuntimeError(f"the transfer is {state}")

  def prepare(self, arrays):
    """In the first message of a turn, which does not count."""
    metadata, theirs = self.side.hear()
    self.agent.add_remote_agent(metadata)
    self.transfer = self.agent.initialize_xfer(
        "WRITE", self.agent.get_xfer_descs(descriptors(arrays), "DRAM"),
        self.agent.get_xfer_descs(theirs, "DRAM"), "receiver", _DONE)


class Receiver:

  def __init__(self, agent, side):
    self.agent, self.side, self.registered = agent, side, None

  def load(self, own):
    if self.registered is not None:
      self.agent.deregister_memory(self.registered)
    self.registered = None
    if own:
      self.registered = register(self.agent, own)
      self.side.tell((self.agent.get_agent_metadata(), descriptors(own)))

  def arm(self, sizes, own):
    del sizes
    self.own = own

  def take(self):
    while not self.agent.get_new_notifs().get("sender"):
      pass
    return self.own


class Acceptor:

  def __init__(self):
    self.socket = socket.create_server(("127.0.0.1", 0))
    self.address = str(self.socket.getsockname()[1])
    self.agent = make_agent("receiver")

  def accept(self):
    side = Side(self.socket.accept()[0])
    side.tell(self.agent.get_agent_metadata())
    self.agent.add_remote_agent(side.hear())
    return Receiver(self.agent, side)


def listen():
  return Acceptor()


def connect(address):
  return Sender(address)
