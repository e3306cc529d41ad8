#ifndef TENSORFERRY_SESSION_SESSION_H_
#define TENSORFERRY_SESSION_SESSION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "control/authorizer.h"
#include "control/identity.h"
#include "control/session_plan.h"
#include "serialization/message.h"
#include "transfer/link.h"

namespace tensorferry {

// How a session ended, and what it moved.
struct SessionReport {
  absl::Status why;  // OK: closed as wished
  LinkCounters counters;
};

struct CallOptions {
  absl::Duration timeout = absl::Minutes(1);  // for request and reply together
  Destination into;  // the reply's tensors; after an error it may hold anything
  // As in SendOptions and ReceiveOptions; of both directions.
  StreamSet ready_on, streams;
  std::shared_ptr<LendableMemory> lend;  // of the request, as in SendOptions
  bool leases = false;                   // of the reply, as in ReceiveOptions
  bool done_is_quick = false;            // as in SendOptions
};

// A plan that is alive: two peers, lanes between them, both directions at once.
// It lives as long as its control stream. Thread-safe.
//
// Callbacks run on the peer's executor (see done_is_quick), each exactly once;
// a callback is the fence after which nobody touches its operation's buffers. A
// session may be destroyed in a callback. What a callback of an operation
// throws ends the session with INTERNAL (RESOURCE_EXHAUSTED: std::bad_alloc);
// what one of the end throws is dropped. What a call itself refuses, as after
// the session's end or for a message that cannot be serialised, is told within
// it, by its callback: hold no lock there that the callback takes.
//
// Where nobody wants to know how a Send, a Reply or a ReplyError ended, its
// `done` is null. A session may outlive its peer, which ends it.
//
//   session->Send({.tensors = {weights}}, {}, [](absl::StatusOr<Receipt> r) {
//     ...  // OK: the receiver has every byte and verified the digests
//   });
class Session {
 public:
  virtual ~Session() = default;  // closes without draining

  virtual const std::string& id() const = 0;
  virtual const SessionPlan& plan() const = 0;
  virtual const PeerId& remote() const = 0;
  // Who opened it, as was proved, and what that identity may do here now; see
  // control/authorizer.h. Of a session that we opened: nobody in particular,
  // who may do everything. In a child after fork nobody may do anything.
  virtual const Identity& remote_identity() const = 0;
  virtual Grants remote_grants() const = 0;
  // Bytes and messages so far; grows while a transfer is under way.
  virtual LinkCounters counters() const = 0;

  // Sends one message. Headers leave in the order of Send; messages may
  // complete in another. Those that nobody receives yet count as in flight:
  // beyond Limits::operations_in_flight, or bytes_in_flight, all that this side
  // sends waits for them, its calls and replies too. The tensors must not be
  // written to before `done` has run.
  // OK: the receiver has every byte, in the tensors that its user sees, and
  // found the digests equal. INVALID_ARGUMENT, FAILED_PRECONDITION,
  // RESOURCE_EXHAUSTED: this side refused, nothing was sent; or the text says
  // that the receiver did, or that the session ended with it. After that, and
  // after DEADLINE_EXCEEDED, CANCELLED, DATA_LOSS (the receiver's digest
  // differs), UNAVAILABLE (the peer is gone) and INTERNAL, the receiver may or
  // may not have the message.
  // Once the session has ended this and all calls below answer
  // FAILED_PRECONDITION, naming the reason, before they return.
  virtual Operation Send(TensorMessage message, SendOptions options,
                         Done<Receipt> done) = 0;

  // Takes the oldest message that fits options.filter, or waits for one. Takes
  // requests too: see Received::envelope and Reply.
  // INVALID_ARGUMENT: `into` does not fit the message, which is refused to its
  // sender. RESOURCE_EXHAUSTED: no memory for it, and so too. DATA_LOSS: not
  // what was sent; its sender hears so. DEADLINE_EXCEEDED, CANCELLED: no
  // message was taken, or one was and its sender hears so. UNAVAILABLE: the
  // peer is gone. After all of them the content of `into` is unspecified.
  virtual Operation Receive(ReceiveOptions options, Done<Received> done) = 0;

  // Sends a request and waits for its reply. A reply error arrives as the
  // status that the other side gave. A request that nobody there receives waits
  // for somebody, until it is DEADLINE_EXCEEDED. Otherwise the statuses of Send
  // for the request, and of Receive for the reply.
  virtual Operation Call(TensorMessage request, CallOptions options,
                         Done<Received> done) = 0;

  // Answers a request. `request` is the envelope that came with it.
  // INVALID_ARGUMENT: not a request. If the reply cannot be sent, its status
  // goes to the caller in its place.
  virtual Operation Reply(const Envelope& request, TensorMessage reply,
                          SendOptions options, Done<Receipt> done) = 0;
  virtual Operation ReplyError(const Envelope& request, absl::Status error,
                               Done<Receipt> done) = 0;

  // Gives every message and request of `type` to `handler` instead of Receive,
  // until the session ends; but what a Receive without a type that was waiting
  // before this call takes goes on going to that Receive. Up to four messages
  // of the type arrive at a time, in no order among them, each as by a Receive
  // with the default options (so nothing is leased). One that fails on the way
  // is not given to the handler; its sender hears why. What was acknowledged is
  // handled, even after the session's end. Handlers run on the executor, maybe
  // several at once. What one throws is INTERNAL: to the caller of a request,
  // and for any other message the session ends with it.
  // FAILED_PRECONDITION: the type has a handler.
  using Handler = std::function<void(Session&, Received)>;
  virtual absl::Status Handle(uint32_t type, Handler handler) = 0;

  // `on_end` runs once, when the session has ended for whatever reason; at once
  // if it has. Callbacks and handlers were given to the executor before it: one
  // of several threads may run it while they run, or are about to. What they
  // use must outlive them. So it is with `done` of Close.
  virtual void OnEnd(absl::AnyInvocable<void(SessionReport) &&> on_end) = 0;

  // Lets operations begun on both sides finish for up to `drain`, refuses new
  // ones with FAILED_PRECONDITION, then ends the session; what is left is
  // CANCELLED on both sides. Idempotent: every `done` runs, with the one
  // report.
  virtual void Close(absl::Duration drain, Done<SessionReport> done) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_SESSION_SESSION_H_
