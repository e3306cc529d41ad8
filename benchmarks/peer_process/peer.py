"""A peer in a process of its own, told what to do by lines of text.

The program and its commands are tests/reliability/peer_program.h's.
"""

import itertools
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_PATIENCE_S = 60


class Failure(Exception):
  pass


def build(target="//benchmarks/peer_process"):
  """Builds a program, optimised; returns where it is."""
  bazel = str(ROOT / "tools/bazel")
  if subprocess.run([bazel, "build", "-c", "opt", "--strip=always", target],
                    cwd=ROOT).returncode != 0:
    sys.exit(f"{target} does not build")
  where = subprocess.run([bazel, "info", "-c", "opt", "bazel-bin"], cwd=ROOT,
                         check=True, stdout=subprocess.PIPE, text=True).stdout
  package, _, name = target.removeprefix("//").partition(":")
  return (pathlib.Path(where.strip().split("\n")[-1]) / package /
          (name or pathlib.Path(package).name))


def cpu_seconds(pid):
  """Of all threads of a process that live, to the nanosecond."""
  total = 0
  for task in os.listdir(f"/proc/{pid}/task"):
    with open(f"/proc/{pid}/task/{task}/schedstat") as file:
      total += int(file.read().split()[0])
  return total * 1e-9


class Outcome:
  """Of a command or an event: OK or the name of an error, and when it came."""

  def __init__(self, code, text):
    self.at = time.monotonic()
    self.code, self.text = code, text


class Peer:

  def __init__(self, program, **arguments):
    self._process = subprocess.Popen(
        [str(program), "--peer"] +
        [f"{key}={value}" for key, value in arguments.items()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    self.pid = self._process.pid
    self._numbers = itertools.count(1)
    self._answers = {0: queue.SimpleQueue()}
    self._events = {}
    self._lock = threading.Lock()
    threading.Thread(target=self._read, daemon=True).start()
    self.address = self.wait(0).text

  def ask(self, *words):
    """Sends a command; its number, for wait()."""
    number = next(self._numbers)
    self._answers[number] = queue.SimpleQueue()
    line = " ".join(str(word) for word in (number,) + words)
    self._process.stdin.write(line + "\n")
    self._process.stdin.flush()
    return number

  def wait(self, number, ok=True):
    """Its Outcome. Failure: none came in time, or, if `ok`, an error."""
    try:
      outcome = self._answers[number].get(timeout=_PATIENCE_S)
    except queue.Empty:
      raise Failure(f"no answer in {_PATIENCE_S} s") from None
    if ok and outcome.code != "OK":
      raise Failure(f"{outcome.code}: {outcome.text}")
    return outcome

  def do(self, *words):
    return self.wait(self.ask(*words))

  def event(self, what):
    """(session, Outcome) of the next event that is called so."""
    try:
      return self._queue(what).get(timeout=_PATIENCE_S)
    except queue.Empty:
      raise Failure(f"no '{what}' in {_PATIENCE_S} s") from None

  def kill(self):
    self._process.send_signal(signal.SIGKILL)

  def stop(self):
    self._process.send_signal(signal.SIGSTOP)

  def end(self):
    self.kill()
    self._process.wait()

  def cpu_seconds(self):
    return cpu_seconds(self.pid)

  def look(self):
    """What the system says that it holds."""
    with open(f"/proc/{self.pid}/status") as file:
      fields = dict(line.split(":", 1) for line in file)
    memory = sum(int(fields[field].split()[0]) * 1024
                 for field in ("RssAnon", "RssShmem"))
    return {"descriptors": len(os.listdir(f"/proc/{self.pid}/fd")),
            "threads": int(fields["Threads"]), "memory": memory}

  def _queue(self, what):
    with self._lock:
      return self._events.setdefault(what, queue.SimpleQueue())

  def _read(self):
    for line in self._process.stdout:
      number, word, *rest = line.rstrip("\n").split(" ", 2)
      rest = "".join(rest)
      if number == "0" and word in ("accepted", "ended", "lost"):
        session, code, *text = rest.split(" ", 2)
        self._queue(word).put((int(session), Outcome(code, "".join(text))))
      elif int(number) in self._answers:
        self._answers[int(number)].put(Outcome(word, rest))


def connect(client, server, path):
  """(session at the client, session at the server)."""
  session = client.ask("connect", server.address, path, 30000)
  client.wait(session)
  return session, server.event("accepted")[0]
