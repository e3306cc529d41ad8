"""The two processes of one contestant, told by lines of JSON what to do."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time

from environment import peer

_PATIENCE_S = 60


class Failure(Exception):
  """What a contestant says, or that it says nothing."""


class _Process:
  """One of the two."""

  def __init__(self, role, command, ready, environment):
    self.role = role
    self._unread = b""
    # Its standard error is kept for the reason of a failure.
    self._errors = os.memfd_create(role)
    self._process = subprocess.Popen(
        command + [role, str(ready)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=self._errors, pass_fds=[ready],
        env=dict(os.environ, **environment))
    self.pid = self._process.pid

  def tell(self, **command):
    line = json.dumps(command) + "\n"
    try:
      self._process.stdin.write(line.encode())
      self._process.stdin.flush()
    except BrokenPipeError:
      pass  # its output has the reason

  def fileno(self):
    return self._process.stdout.fileno()

  def read(self):
    """What it has written, after select: a reply, or None until there is one.
    """
    data = os.read(self.fileno(), 1 << 20)
    if not data:
      raise Failure(f"the {self.role} ended: {self._last_words()}")
    self._unread += data
    if b"\n" not in self._unread:
      return None
    line, self._unread = self._unread.split(b"\n", 1)
    reply = json.loads(line)
    if "error" in reply:
      raise Failure(reply["error"])
    return reply

  def _last_words(self):
    code = self._process.wait(timeout=5)
    lines = os.pread(self._errors, 1 << 20, 0).decode(errors="replace").split(
        "\n")
    said = [line.strip() for line in lines if line.strip()]
    return f"exit code {code}" + (f", {said[-1][:200]}" if said else "")

  def status(self, field):
    """Of /proc/PID/status, in bytes."""
    with open(f"/proc/{self.pid}/status") as file:
      for line in file:
        if line.startswith(field + ":"):
          return int(line.split()[1]) * 1024
    raise Failure(f"no {field}")

  def forget_peak(self):
    with open(f"/proc/{self.pid}/clear_refs", "w") as file:
      file.write("5")

  def signal(self, number):
    self._process.send_signal(number)

  def end(self):
    self.signal(signal.SIGCONT)
    # One that has died leaves what it was told.
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    try:
      self._process.wait(timeout=5)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    self._process.stdout.close()
    os.close(self._errors)


def _hear(sides):
  """A reply of each. Whoever fails first has the reason."""
  replies = {}
  deadline = time.monotonic() + _PATIENCE_S
  while len(replies) < len(sides):
    waiting = [side for side in sides if side not in replies]
    ready = select.select(waiting, [], [], max(0, deadline - time.monotonic()))[0]
    if not ready:
      raise Failure(f"the {waiting[0].role} says nothing for {_PATIENCE_S} s")
    for side in ready:
      reply = side.read()
      if reply is not None:
        replies[side] = reply
  return [replies[side] for side in sides]


class Pair:
  """Connected from the start, until closed.

  Everything raises Failure, after which the pair is of no use.
  """

  def __init__(self, command, environment):
    # From the receiver to the sender, see contestant.cc.
    read, write = os.pipe()
    self.receiver = _Process("receiver", command, write, environment)
    self.sender = _Process("sender", command, read, environment)
    self._both = (self.sender, self.receiver)
    os.close(read)
    os.close(write)
    try:
      address = _hear([self.receiver])[0]["address"]
      self.connect_seconds = self._both_do(
          do="connect", address=address)[0]["seconds"]
      self._memory = [side.status("VmRSS") for side in self._both]
    except Exception:
      self.close()
      raise

  def idle_cpu(self, seconds):
    """Share of a core that each side uses while nothing is under way."""
    time.sleep(min(0.2, seconds))  # for what connecting has left
    before = [peer.cpu_seconds(side.pid) for side in self._both]
    begin = time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begin
    return [(peer.cpu_seconds(side.pid) - used) / passed
            for side, used in zip(self._both, before)]

  def load(self, sizes):
    self._both_do(do="load", sizes=sizes)

  def turn(self, messages, reuse):
    """(sender's reply, receiver's), each with "peak_bytes" added: the most
    memory in the turn beyond what the process had once it was connected."""
    for side in self._both:
      side.forget_peak()
    replies = self._both_do(do="turn", messages=messages, reuse=reuse)
    for side, reply, before in zip(self._both, replies, self._memory):
      reply["peak_bytes"] = side.status("VmHWM") - before
    return replies

  def stop(self):
    for side in self._both:
      side.signal(signal.SIGSTOP)

  def go_on(self):
    for side in self._both:
      side.signal(signal.SIGCONT)

  def close(self):
    for side in self._both:
      side.end()

  def _both_do(self, **command):
    for side in self._both:
      side.tell(**command)
    return _hear(self._both)
