#ifndef TENSORFERRY_TRANSFER_LINK_H_
#define TENSORFERRY_TRANSFER_LINK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "serialization/allocate.h"
#include "serialization/message.h"
#include "serialization/streams.h"
#include "transfer/envelope.h"
#include "transfer/lendable_memory.h"
#include "transfer/receipt.h"
#include "transfer/rules.h"

namespace tensorferry {

struct SendOptions {
  // From the call, waiting in line included; then DEADLINE_EXCEEDED.
  absl::Duration timeout = absl::Minutes(1);
  // Streams on which the tensors become ready; the transfer waits for them. For
  // devices that are not among them: the calling thread's current streams.
  StreamSet ready_on;
  // Streams that carry the tensors, after that wait. For devices that are not
  // among them: the plan's.
  StreamSet streams;
  // Whether tensors on devices have digests too, if the plan has any: each side
  // copies them to pinned memory of the host for it.
  bool digest_devices = false;
  // A receiver on this host that takes leases (ReceiveOptions) gets what of the
  // message lies in this memory without a copy, and without a digest. It must
  // not be written to until it was returned (see LendableMemory), whatever the
  // status. Null, and where it is not possible: all is copied, as receipts say.
  std::shared_ptr<LendableMemory> lend;
  // `done` returns at once, waits for nothing (for no operation either), throws
  // nothing, and drops no tensor's last copy. So the loop may run it, ahead of
  // callbacks that wait for a thread, which saves a change of threads.
  bool done_is_quick = false;
};

struct ReceiveOptions {
  // From the call to the start of the delivery; then DEADLINE_EXCEEDED.
  // Infinite: ends with a message, Cancel or the end of the link.
  absl::Duration timeout = absl::InfiniteDuration();
  ReceiveFilter filter;  // default: any message or request of a user's type
  // Tensors to fill, the link's alone until the callback; empty: new ones.
  Destination into;
  // Streams on which the tensors of `into` become free; the transfer waits for
  // them. For devices that are not among them: the calling thread's current
  // streams.
  StreamSet ready_on;
  // Streams on which tensors are filled, after that wait. For devices that are
  // not among them: the plan's.
  StreamSet streams;
  // Whether tensors that their sender lends may stay in its memory until they,
  // and all that shares their storage, are dropped here. They can be written to
  // (which takes memory, and the sender does not see it). They have no digest,
  // and change if the sender does not keep its word and writes to them. Not
  // with `into`, and not for messages with sparse or quantised tensors, which
  // are copied. Children after fork must not use them.
  bool leases = false;
  bool done_is_quick = false;  // as in SendOptions
};

struct Received {
  TensorMessage message;  // its tensors are the user's
  Envelope envelope;      // as sent; look at reply_error of a reply first
  Receipt receipt;        // its time counts from the call of Receive
  // Streams on which the tensors were filled; they have come so far already.
  StreamSet ready_on;
};

// One Send or Receive under way. Dropping it does not cancel.
class Operation {
 public:
  Operation() = default;
  explicit Operation(std::function<void()> cancel)
      : cancel_(std::move(cancel)) {}
  // Asks the operation to end with CANCELLED. It may still end otherwise; its
  // callback is the fence. Any thread, any time, also after the end.
  void Cancel() {
    if (cancel_) cancel_();
  }

 private:
  std::function<void()> cancel_;
};

// Since the link was made. They only grow, each by itself.
struct LinkCounters {
  // Of messages, manifests and frames not included; also of those that failed
  // later, and again if sent again.
  uint64_t bytes_sent = 0, bytes_received = 0;
  uint64_t messages_sent = 0;      // acknowledged with OK
  uint64_t messages_received = 0;  // delivered with OK
};

// The lanes of one session seen from one side: tensors in, tensors out, both
// directions at once. Thread-safe. Speaks the transfer protocol of
// docs/wire_format_transfer.md; statuses are the contract's, with peer,
// operation and tensor in the text.
//
// Streams of devices wait for each other by events and no thread waits for a
// device, but a callback comes only when all that the operation put on its
// streams is over. So one on a stream that stands still does not end.
//
// Callbacks run on the endpoint's executor (see done_is_quick), exactly once
// each; but what a call itself refuses (the link has ended or drains, a message
// that cannot be serialised, no stream for a device) is told within it.
// Destroying a link closes it; pending callbacks then run with CANCELLED, never
// inside the destructor.
class Link {
 public:
  virtual ~Link() = default;

  // Sends one message; headers leave in the order of Send, so messages that
  // nobody receives hold up those behind them once they fill a limit in flight
  // (operations_in_flight, bytes_in_flight). OK means that the receiver has
  // every byte, in the tensors that its user sees, and found the digests equal.
  // The tensors must not be written to before `done` has run. A status other
  // than OK from before the header (INVALID_ARGUMENT, FAILED_PRECONDITION,
  // RESOURCE_EXHAUSTED) says that nothing was sent; after it, the outcome at
  // the receiver is unknown unless the text says refused.
  virtual Operation Send(TensorMessage message, Envelope envelope,
                         SendOptions options, Done<Receipt> done) = 0;

  // Takes one message. After a status other than OK the content of
  // options.into is unspecified.
  virtual Operation Receive(ReceiveOptions options, Done<Received> done) = 0;

  // No new sends but replies (FAILED_PRECONDITION); those begun or queued go
  // on, and Receive still takes what arrives. `drained` runs once none of this
  // side's sends and no message whose header has arrived is left, and the last
  // word on each was handed to the transport; not OK: the link ended first.
  // Idempotent.
  virtual void Drain(DoneStatus drained) = 0;

  // The peer is about to hear that all ends with `why` (CANCELLED if it is OK),
  // and may break the lanes then: operations that end by that get `why`. The
  // first call counts; Close is still to come.
  virtual void AnnounceEnd(absl::Status why) = 0;

  // Ends everything: pending operations get `why` (CANCELLED if it is OK), each
  // after the transport has let go of its buffers; then `closed` runs.
  // Idempotent: the first `why` counts, every `closed` runs.
  virtual void Close(absl::Status why, DoneStatus closed) = 0;

  // Whether it has ended or is about to: nothing new is begun any more.
  virtual bool ended() const = 0;

  virtual LinkCounters counters() const = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LINK_H_
