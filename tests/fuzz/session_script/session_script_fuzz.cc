// A script of what users, peers and links do to a session: first to one machine
// with every event at any time, in order or not, then as the choices of the
// simulated world (tests/simulation), whose invariants must hold.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>

#include "absl/strings/string_view.h"
#include "session/session_machine.h"
#include "tests/simulation/session_world.h"

namespace tensorferry {
namespace {

void Check(bool claim) {
  if (!claim) std::abort();
}

// Carries out nothing by itself: the script does, when it likes. What comes
// only as an answer comes only after it was asked for, and a link only after
// its stream.
class Script {
 public:
  void Run(absl::string_view bytes) {
    for (char byte : bytes) {
      Step(static_cast<uint8_t>(byte));
      Look();
    }
    Finish();
  }

 private:
  using Kind = SessionAction::Kind;
  using State = SessionMachine::State;

  void Step(uint8_t byte) {
    const int argument = byte >> 4;
    const absl::Time soon = now_ + absl::Seconds(argument);
    switch (byte & 15) {
      case 0:
        if (!streamed_) machine_.OnStream(out_);
        streamed_ = true;
        break;
      case 1:
        if (!streamed_ || linked_) break;
        machine_.OnLink(out_);
        linked_ = true;
        break;
      case 2:
        return machine_.OnCalleeReady(out_);
      case 3:
        return machine_.OpenBy(soon, absl::DeadlineExceededError("late"));
      case 4:
        return machine_.End(
            argument == 0 ? absl::OkStatus() : absl::InternalError("bug"),
            out_);
      case 5:
        return machine_.EndUnlessOpen(absl::UnavailableError("down"), out_);
      case 6:
        return machine_.Close(now_, soon, absl::CancelledError("late"), out_);
      case 7:
        return machine_.OnPeerDrains(out_);
      case 8:
        if (streamed_ && !stream_ended_) EndStream(argument % 2 == 0);
        break;
      case 9:
        if (machine_.live()) ++calls_, machine_.OnCallBegun();
        break;
      case 10:
        if (calls_ > 0) --calls_, machine_.OnCallEnded(out_);
        break;
      case 11:
        now_ = soon;
        return machine_.OnTime(now_, out_);
      default:
        Answer();
    }
  }

  void EndStream(bool ok) {
    stream_ended_ = true;
    machine_.OnStreamEnded(
        now_, ok ? absl::OkStatus() : absl::UnavailableError("silent"), out_);
  }

  // The oldest thing that the machine waits for.
  void Answer() {
    if (asked_.empty()) return;
    const Kind kind = asked_.front();
    asked_.pop_front();
    if (kind == Kind::kDrainLink) machine_.OnLinkDrained(out_);
    if (kind == Kind::kLastWords) machine_.OnLastWordsSaid(out_);
    if (kind == Kind::kCloseLink) machine_.OnLinkClosed(out_);
  }

  void Look() {
    for (const SessionAction& action : out_) {
      Check(!finished_ || action.kind == Kind::kSayGoodbye);
      switch (action.kind) {
        case Kind::kTellOpen:
        case Kind::kTellNotOpen:
          Check(++told_ == 1);
          Check(action.status.ok() == (action.kind == Kind::kTellOpen));
          break;
        case Kind::kDrainLink:
        case Kind::kLastWords:
        case Kind::kAnnounceEnd:
          Check(linked_ && !closed_);
          break;
        case Kind::kCloseLink:
          Check(linked_ && !closed_);
          closed_ = true;
          break;
        case Kind::kSayDrain:
        case Kind::kSayGoodbye:
          Check(streamed_);
          break;
        case Kind::kFinish:
          Check(told_ == 1);
          finished_ = true;
      }
      asked_.push_back(action.kind);
    }
    out_.clear();
    Check(machine_.state() >= state_);  // never back
    state_ = machine_.state();
    Check((state_ == State::kEnded) == finished_);
    Check(!finished_ || machine_.next_deadline() == absl::InfiniteFuture());
  }

  // Whatever went before: it ends once it is told to, the stream has ended and
  // what it asks for is answered.
  void Finish() {
    machine_.End(absl::OkStatus(), out_);
    Look();
    if (streamed_ && !stream_ended_) EndStream(true);
    Look();
    while (!asked_.empty()) {
      Answer();
      Look();
    }
    Check(finished_);
  }

  SessionMachine machine_;
  SessionMachine::Actions out_;
  std::deque<Kind> asked_;
  absl::Time now_ = absl::UnixEpoch();
  State state_ = State::kOpening;
  bool streamed_ = false, stream_ended_ = false, linked_ = false;
  bool closed_ = false, finished_ = false;
  int told_ = 0, calls_ = 0;
};

void RunInWorld(absl::string_view bytes) {
  size_t next = 0;
  std::minstd_rand rest(static_cast<unsigned>(bytes.size()) + 1);
  const auto report = simulation::RunWorld(
      [&]() -> uint64_t {
        if (next < bytes.size()) return static_cast<uint8_t>(bytes[next++]);
        return rest();
      },
      /*trace=*/false);
  if (report.failure.empty()) return;
  std::fprintf(stderr, "%s\n", report.failure.c_str());
  std::abort();
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  tensorferry::Script().Run(bytes);
  tensorferry::RunInWorld(bytes);
  return 0;
}
