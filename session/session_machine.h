#ifndef TENSORFERRY_SESSION_SESSION_MACHINE_H_
#define TENSORFERRY_SESSION_SESSION_MACHINE_H_

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tensorferry {

// What the driver of a SessionMachine has to do, in order.
struct SessionAction {
  enum class Kind {
    kTellOpen,     // tell whoever waits for the session that it is open
    kTellNotOpen,  // the same, that it never will be: `status`
    kDrainLink,    // let the link drain; once it has, OnLinkDrained
    kSayDrain,     // on the control stream
    kAnnounceEnd,  // tell the link that the peer is about to hear `status`
    kSayGoodbye,   // on the control stream, with `status`
    kLastWords,    // let the link drain again; then OnLastWordsSaid
    kCloseLink,    // close the link with `status`; then OnLinkClosed
    kFinish,       // the session has ended: let go of everything, tell so
  };
  Kind kind = Kind::kFinish;
  absl::Status status;
};

// One side of one session, from the first word of its control stream until its
// lanes are gone: pure, so that it can be simulated. Knows no streams, links,
// threads or clocks; time arrives in events. Every event appends to `out` what
// has to be done now, and actions are carried out in that order. States only go
// forward:
//
//   opening  -> open      the link is there, and the callee's lanes are up
//   open     -> draining  either side asked for it
//   any      -> ending    goodbye is said; once the control stream has ended,
//                         the link closes
//   ending   -> ended     the link has let go of every buffer
//
// What ends a session is one event: a wish, a deadline, a broken link, or the
// end of the control stream, which has a lease and so notices a silent peer.
class SessionMachine {
 public:
  enum class State { kOpening, kOpen, kDraining, kEnding, kEnded };
  using Actions = std::vector<SessionAction>;

  // The control stream is there. False: the session has ended meanwhile, and
  // the peer is told.
  bool OnStream(Actions& out);
  // The link is there, after OnStream. False: it comes too late, and nobody
  // will close it.
  bool OnLink(Actions& out);
  // On the callee: its lanes are up. On the caller: the callee said so.
  void OnCalleeReady(Actions& out);
  // If it is not open by then, it ends with `late`.
  void OpenBy(absl::Time deadline, absl::Status late);

  // Ends the session. OK: as wished. The first reason counts.
  void End(absl::Status why, Actions& out) {
    EndIf(State::kDraining, std::move(why), out);
  }
  // The same, unless it has opened.
  void EndUnlessOpen(absl::Status why, Actions& out) {
    EndIf(State::kOpening, std::move(why), out);
  }
  // Ends it once what both sides have begun is through, and with `late` if that
  // is not by `deadline`; the earliest deadline counts. At once, and as wished,
  // if `deadline` is past or the session is not open.
  void Close(absl::Time now, absl::Time deadline, absl::Status late,
             Actions& out);

  // The peer's drain, and the end of the control stream with what was said.
  void OnPeerDrains(Actions& out);
  void OnStreamEnded(absl::Time now, absl::Status why, Actions& out);

  // The driver's answers.
  void OnLinkDrained(Actions& out);
  void OnLastWordsSaid(Actions& out) { CutLink(out); }
  void OnLinkClosed(Actions& out);
  // Own calls that wait for a reply; a drain waits for them, too.
  void OnCallBegun() { ++calls_; }
  void OnCallEnded(Actions& out);

  void OnTime(absl::Time now, Actions& out);

  // When OnTime has something to do.
  absl::Time next_deadline() const;
  State state() const { return state_; }
  // Operations may begin.
  bool live() const {
    return state_ == State::kOpen || state_ == State::kDraining;
  }
  const absl::Status& why() const { return why_; }  // once it is ending

 private:
  struct Deadline {
    absl::Time at = absl::InfiniteFuture();
    absl::Status late;
  };

  // Ends it unless it has come further than `latest`.
  void EndIf(State latest, absl::Status why, Actions& out);
  void OpenIfReady(Actions& out);
  void Drain(Actions& out);
  void OnProgressOfDrain(Actions& out);
  void CloseLink(absl::Time now, Actions& out);
  void CutLink(Actions& out);

  State state_ = State::kOpening;
  absl::Status why_;
  bool has_stream_ = false, stream_ended_ = false;
  bool has_link_ = false, link_closing_ = false, link_cut_ = false;
  bool callee_ready_ = false;
  // The drain: we ask once our sends and calls are through, and say goodbye
  // once they are if the peer has asked.
  bool peer_drains_ = false, drain_asked_ = false;
  bool link_drains_ = false, link_drained_ = false;
  int calls_ = 0;
  Deadline open_by_, drain_by_;
  absl::Time last_words_by_ = absl::InfiniteFuture();
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_SESSION_MACHINE_H_
