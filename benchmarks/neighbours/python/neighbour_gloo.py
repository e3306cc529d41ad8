"""torch.distributed over gloo: send and recv of each tensor, then an answer."""

import socket

import torch
import torch.distributed as dist


def free_port():
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def join(port, rank):
  dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}",
                          rank=rank, world_size=2)


class Sender:

  def __init__(self):
    self.answer = torch.empty(1, dtype=torch.uint8)

  def send(self, arrays):
    for array in arrays:
      dist.send(torch.from_numpy(array.view("int32")), 0)
    dist.recv(self.answer, 0)


class Receiver:

  def __init__(self):
    self.answer = torch.ones(1, dtype=torch.uint8)

  def arm(self, sizes, own):
    self.sizes = sizes
    self.own = own and [torch.from_numpy(array.view("int32")) for array in own]

  def take(self):
    tensors = self.own or [
        torch.empty(size // 4, dtype=torch.int32) for size in self.sizes]
    for tensor in tensors:
      dist.recv(tensor, 1)
    dist.send(self.answer, 1)
    return [tensor.numpy() for tensor in tensors]


class Acceptor:

  def __init__(self):
    self.address = str(free_port())

  def accept(self):
    join(self.address, 0)
    return Receiver()


def listen():
  return Acceptor()


def connect(address):
  join(address, 1)
  return Sender()
