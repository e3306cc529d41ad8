"""Interleaved rounds: who is there, whose turn it is, what it has shown."""

import math
import statistics
import sys
import time

import catalogue
import environment
import pair

# A side that uses more of a core while idle is stopped in others' turns.
_SPINS = 0.05
# A contestant's turns after the first are made shorter if it took longer.
_TURN_S = 1.5


class WrongBytes(Exception):
  """Something was delivered that is not what was sent."""


class Player:
  """A contestant here: its pair of processes, or why there is none."""

  def __init__(self, contestant, command):
    self.contestant = contestant
    self.command = command
    self._pair = None
    self._spins = False
    self.reason = None  # it takes no part
    self.connect_seconds = self.idle_cpu = None

  @property
  def name(self):
    return self.contestant.name

  def start(self, idle_s):
    try:
      self._connect()
      self.connect_seconds = self._pair.connect_seconds
      self.idle_cpu = self._pair.idle_cpu(idle_s)
      self._spins = max(self.idle_cpu) > _SPINS
    except pair.Failure as failure:
      self.reason = one_line(failure)
      self.close()
    self.leave()

  def turns(self, workload, messages):
    """{memory: (sender's reply, receiver's)}. Raises pair.Failure; the pair is
    a new one afterwards."""
    try:
      if self._pair is None:
        self._connect()
      if self._spins:
        self._pair.go_on()
      self._pair.load(workload.sizes)
      replies = {}
      for memory in catalogue.memories(self.contestant):
        replies[memory] = self._pair.turn(messages, memory == "own")
      self._pair.load([])
      return replies
    except pair.Failure:
      self.close()
      raise
    finally:
      self.leave()

  def leave(self):
    if self._spins and self._pair is not None:
      self._pair.stop()

  def close(self):
    if self._pair is not None:
      self._pair.close()
    self._pair = None

  def _connect(self):
    self._pair = pair.Pair(self.command, self.contestant.environment)


class Record:
  """Of one contestant, workload and kind of memory."""

  def __init__(self):
    self.seconds = []  # of every message
    self.medians = {}  # round -> seconds
    self.sides = []  # of every round: the sender's reply, the receiver's

  def add(self, round_number, replies):
    sender, receiver = replies
    if sender["fingerprint"] != receiver["fingerprint"]:
      raise WrongBytes(f"received {receiver['fingerprint']}, sent "
                       f"{sender['fingerprint']}")
    self.seconds += sender["seconds"]
    self.medians[round_number] = statistics.median(sender["seconds"])
    self.sides.append(replies)

  def summary(self, nbytes, beside):
    p50 = statistics.median(self.seconds)
    each = lambda what: [
        statistics.median(side[what] for side in sides)
        for sides in zip(*self.sides)]
    return {
        "messages": len(self.seconds),
        "p50_s": p50,
        "p99_s": _quantile(self.seconds, 0.99),
        "gb_per_s": nbytes / p50 * 1e-9,
        "cpu_s_per_gb": [cpu / nbytes * 1e9 for cpu in each("cpu_seconds")],
        "context_switches": each("context_switches"),
        "peak_over_payload": [
            max(side["peak_bytes"] for side in sides) / nbytes
            for sides in zip(*self.sides)],
        "time_over_ferry": self._over(beside),
    }

  def _over(self, other):
    """The median of the rounds' ratios: a slow moment of the machine slows
    both sides of one round."""
    ratios = [median / other.medians[number]
              for number, median in self.medians.items()
              if number in other.medians]
    return statistics.median(ratios) if ratios else None


def one_line(reason):
  return " ".join(str(reason).split())[:300]


def _quantile(values, share):
  """The smallest that at least `share` of all do not exceed."""
  return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def make_players(contestants, program, wheels):
  """Installs and builds what they need; `program` is contestant.cc's."""
  players = []
  for contestant in contestants:
    player = Player(contestant, None)
    players.append(player)
    try:
      for name in contestant.needs:
        wheels.need(name)
      player.command = _command(contestant, program, wheels)
    except environment.Unavailable as reason:
      player.reason = one_line(reason)
  return players


def _command(contestant, program, wheels):
  kind, name = contestant.runs.split(":", 1)
  if kind == "cpp":
    return [str(program), name]
  if kind == "python":
    return [wheels.python, str(environment.FOLDER / "python/contestant.py"),
            name]
  return [str(program), f"plugin:{wheels.build_plugin(name)}"]


class Comparison:

  def __init__(self, players, workloads, rounds):
    self.players, self.workloads, self.rounds = players, workloads, rounds
    self.records = {}  # (contestant, workload, memory) -> Record
    self.failures = {}  # (contestant, workload) -> reason
    self.wrong = False
    self._messages = {}

  def run(self, idle_s):
    for player in self.players:
      if player.reason is None:
        player.start(idle_s)
      if player.reason is not None:
        print(f"{player.contestant.title}: takes no part: {player.reason}",
              flush=True)
    try:
      for workload in self.workloads:
        self._run_workload(workload)
    finally:
      for player in self.players:
        player.close()

  def _run_workload(self, workload):
    begin = time.monotonic()
    playing = [player for player in self.players if player.reason is None and
               catalogue.takes_part(player.contestant, workload)]
    for number in range(self.rounds):
      # None is always the first.
      shift = number % len(playing) if playing else 0
      for player in playing[shift:] + playing[:shift]:
        if (player.name, workload.name) not in self.failures:
          self._take_turn(player, workload, number)
    print(f"{workload.title}: {self.rounds} rounds in "
          f"{time.monotonic() - begin:.0f} s", flush=True)

  def _take_turn(self, player, workload, number):
    key = (player.name, workload.name)
    messages = self._messages.setdefault(key, workload.messages)
    try:
      for memory, replies in player.turns(workload, messages).items():
        record = self.records.setdefault(key + (memory,), Record())
        record.add(number, replies)
        fits = int(_TURN_S / record.medians[number])
        self._messages[key] = max(1, min(self._messages[key], fits))
    except (pair.Failure, WrongBytes) as failure:
      self.wrong = self.wrong or isinstance(failure, WrongBytes)
      self.failures[key] = one_line(failure)
      for memory in ("fresh", "own"):
        self.records.pop(key + (memory,), None)
      print(f"{player.contestant.title}, {workload.title}: {failure}",
            file=sys.stderr, flush=True)

  def results(self):
    """All of it as JSON has it."""
    contestants = []
    for player in self.players:
      contestant = player.contestant
      contestants.append({
          "name": contestant.name,
          "title": contestant.title,
          "kind": contestant.kind,
          "lacks": contestant.lacks,
          "beside": contestant.beside,
          "reason": player.reason,
          "connect_s": player.connect_seconds,
          "idle_cpu": player.idle_cpu,
      })
    results = []
    for (name, workload, memory), record in self.records.items():
      results.append(dict(
          contestant=name, workload=workload, into=memory,
          **record.summary(self._nbytes(workload),
                           self._beside(name, workload, memory))))
    return {
        "contestants": contestants,
        "workloads": [{"name": workload.name, "title": workload.title,
                       "tensors": len(workload.sizes),
                       "bytes": workload.nbytes, "rounds": self.rounds}
                      for workload in self.workloads],
        "results": results,
        "failures": [dict(contestant=name, workload=workload, reason=reason)
                     for (name, workload), reason in self.failures.items()],
    }

  def _nbytes(self, name):
    return next(workload.nbytes for workload in self.workloads
                if workload.name == name)

  def _beside(self, name, workload, memory):
    beside = next(player.contestant.beside for player in self.players
                  if player.name == name)
    return self.records.get((beside, workload, memory), Record())
