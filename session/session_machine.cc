#include "session/session_machine.h"

#include <algorithm>
#include <utility>

namespace tensorferry {
namespace {

using Kind = SessionAction::Kind;

// How long a drained session's last words may take after the goodbye.
constexpr absl::Duration kLastWords = absl::Seconds(2);

}  // namespace

bool SessionMachine::OnStream(Actions& out) {
  if (state_ != State::kOpening) {
    out.push_back({Kind::kSayGoodbye, why_});
    return false;
  }
  has_stream_ = true;
  return true;
}

bool SessionMachine::OnLink(Actions& out) {
  if (state_ != State::kOpening) return false;
  has_link_ = true;
  OpenIfReady(out);
  return true;
}

void SessionMachine::OnCalleeReady(Actions& out) {
  callee_ready_ = true;
  OpenIfReady(out);
}

void SessionMachine::OpenBy(absl::Time deadline, absl::Status late) {
  if (state_ == State::kOpening) open_by_ = {deadline, std::move(late)};
}

void SessionMachine::OpenIfReady(Actions& out) {
  if (state_ != State::kOpening || !has_link_ || !callee_ready_) return;
  state_ = State::kOpen;
  open_by_ = {};
  out.push_back({Kind::kTellOpen, {}});
  if (peer_drains_) Drain(out);
}

// The goodbye goes first and the link closes once the stream has ended, so that
// the peer hears why before its lanes break.
void SessionMachine::EndIf(State latest, absl::Status why, Actions& out) {
  if (state_ > latest) return;
  const bool was_opening = state_ == State::kOpening;
  state_ = State::kEnding;
  why_ = std::move(why);
  open_by_ = drain_by_ = {};
  if (has_link_) out.push_back({Kind::kAnnounceEnd, why_});
  if (has_stream_ && !stream_ended_) out.push_back({Kind::kSayGoodbye, why_});
  if (was_opening) {
    out.push_back({Kind::kTellNotOpen,
                   why_.ok() ? absl::CancelledError(
                                   "the session was closed while it opened")
                             : why_});
  }
  if (!has_stream_) CutLink(out);
}

void SessionMachine::Close(absl::Time now, absl::Time deadline,
                           absl::Status late, Actions& out) {
  if (deadline <= now || !live()) return End(absl::OkStatus(), out);
  if (deadline < drain_by_.at) drain_by_ = {deadline, std::move(late)};
  Drain(out);
}

void SessionMachine::OnPeerDrains(Actions& out) {
  if (peer_drains_ || state_ >= State::kEnding) return;
  peer_drains_ = true;
  if (state_ != State::kOpening) Drain(out);  // else once it is open
}

// No new sends from here on; goes on once those begun are through.
void SessionMachine::Drain(Actions& out) {
  state_ = State::kDraining;
  if (!std::exchange(link_drains_, true)) {
    out.push_back({Kind::kDrainLink, {}});
  } else {
    OnProgressOfDrain(out);
  }
}

void SessionMachine::OnLinkDrained(Actions& out) {
  link_drained_ = true;
  OnProgressOfDrain(out);
}

void SessionMachine::OnCallEnded(Actions& out) {
  --calls_;
  OnProgressOfDrain(out);
}

// Ours first: once our sends and calls are through, the peer is asked for the
// same, or told goodbye if it has asked.
void SessionMachine::OnProgressOfDrain(Actions& out) {
  if (state_ != State::kDraining || !link_drained_ || calls_ > 0) return;
  if (peer_drains_) return End(absl::OkStatus(), out);
  if (!std::exchange(drain_asked_, true)) {
    out.push_back({Kind::kSayDrain, {}});
  }
}

void SessionMachine::OnStreamEnded(absl::Time now, absl::Status why,
                                   Actions& out) {
  stream_ended_ = true;
  End(std::move(why), out);
  CloseLink(now, out);
}

// After a drain the last words may still be on their way: an ACK travels apart
// from the goodbye.
void SessionMachine::CloseLink(absl::Time now, Actions& out) {
  if (std::exchange(link_closing_, true)) return;
  if (!link_drains_ || !why_.ok()) return CutLink(out);
  last_words_by_ = now + kLastWords;
  out.push_back({Kind::kLastWords, {}});
}

void SessionMachine::CutLink(Actions& out) {
  link_closing_ = true;
  if (std::exchange(link_cut_, true)) return;
  last_words_by_ = absl::InfiniteFuture();
  if (!has_link_) return OnLinkClosed(out);
  out.push_back({Kind::kCloseLink, why_});
}

void SessionMachine::OnLinkClosed(Actions& out) {
  state_ = State::kEnded;
  out.push_back({Kind::kFinish, why_});
}

void SessionMachine::OnTime(absl::Time now, Actions& out) {
  if (now >= open_by_.at) EndUnlessOpen(open_by_.late, out);
  if (now >= drain_by_.at) End(drain_by_.late, out);
  if (now >= last_words_by_) CutLink(out);
}

absl::Time SessionMachine::next_deadline() const {
  return std::min({open_by_.at, drain_by_.at, last_words_by_});
}

}  // namespace tensorferry
