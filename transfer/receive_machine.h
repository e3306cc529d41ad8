#ifndef TENSORFERRY_TRANSFER_RECEIVE_MACHINE_H_
#define TENSORFERRY_TRANSFER_RECEIVE_MACHINE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/limits.h"
#include "transfer/envelope.h"
#include "transfer/pieces.h"
#include "transfer/send_machine.h"  // OperationId

namespace tensorferry {

using ReceiveId = uint64_t;

// Where the pieces of a body that has arrived are put.
enum class BodyPlace {
  kRegion,  // the memory of the message
  kStage,   // memory for this body alone, copied from when delivering
  kSink,    // nowhere: read and dropped, or ended with its lane
};

// What the driver of a ReceiveMachine has to do, in order.
struct ReceiveAction {
  enum class Kind {
    kAllocate,       // memory for `operation` as `receive` wants, OnAllocated
    kGrant,          // send GRANT
    kRefuse,         // send REFUSE with `status`
    kAck,            // send ACK with `status`
    kRead,           // read the body that waits on `lane` into `place`
    kDigest,         // digest bodies [digested, body), OnDigested
    kDeliver,        // verify, hand over to `receive`, OnDelivered
    kFinishReceive,  // nobody touches its buffers: tell its user `status`
    kDrop,           // forget what was kept for `operation`
    kResetLane,      // end this generation of `lane`
    kEndLink,        // the peer broke the protocol: end all with `status`
  };
  Kind kind = Kind::kGrant;
  OperationId operation = 0;
  ReceiveId receive = 0;
  int lane = 0;
  uint32_t generation = 0;
  uint32_t body = 0;
  // kDigest, kDeliver: so many leading bodies are digested as they are now.
  uint32_t digested = 0;
  BodyPlace place = BodyPlace::kSink;
  absl::Status status;
};

// The receiver's half of the transfer protocol for one direction of a session;
// as pure as the SendMachine. Pairs messages with Receives:
//
//   HEADER -> waits for a Receive -> memory -> GRANT -> bodies, trailer
//          -> delivery -> ACK
//
// Every operation that a HEADER began gets exactly one last word from here:
// REFUSE before the grant; after it, or without one for an inline message, ACK.
// It is open until then, and open operations are held against the limits in
// flight: an honest sender counts for longer, so it never passes them.
//
// Digests of a message in host memory are computed while it arrives, body after
// body in order. Bytes that are being digested are not written to. If a body
// comes again that was digested, all is digested anew, once: by the delivery.
// So bodies that come again and again cost no digests.
//
// A body that arrives is always taken: into the message's memory, aside (before
// there is a Receive, within the window that eager senders have), or nowhere.
// One waits, and with it its lane, only if its place is not known yet (its
// HEADER is still on the way, its memory is being allocated, or an earlier copy
// of it is being read from a lane that is ending, or digested), if what it
// comes again for is being delivered and not all of it is the host's, or if the
// transport reads into memory that no open operation answers for: of that a
// lane gets no more before it is through with what it has. A body may wait for
// ever: that costs nothing but the sender's own lane.
class ReceiveMachine {
 public:
  using Actions = std::vector<ReceiveAction>;

  struct Settings {
    Limits limits;
    int body_lanes = 1;  // numbered from 1
    bool digests = true;
    uint32_t reserved_types = 0x80000000;  // kReservedTypes of serialization
  };

  struct Header {
    uint32_t type = 0;
    Envelope::Kind kind = Envelope::Kind::kMessage;
    uint64_t call = 0;
    bool is_inline = false;
    bool may_be_eager = false;          // all bodies go to host memory
    uint64_t nbytes = 0;                // of the message
    uint64_t manifest_nbytes = 0;       // encoded
    std::vector<uint64_t> body_nbytes;  // empty if inline
    // Not OK: why the message cannot be taken, whoever waits for it.
    absl::Status refusal;
  };

  explicit ReceiveMachine(Settings settings);

  // The user. Ids must grow from call to call.
  void Receive(ReceiveId id, ReceiveFilter filter, absl::Time deadline,
               Actions& out);
  void Cancel(ReceiveId id, absl::Status why, Actions& out);

  // The peer.
  void OnHeader(OperationId id, Header header, Actions& out);
  // `again`: the bodies whose attempt that counts is not their first.
  void OnTrailer(OperationId id, absl::Span<const BodyAttempt> again,
                 Actions& out);
  void OnCancel(OperationId id, absl::Status why, Actions& out);
  // A body's description arrived on `lane`; it stays there until it is read.
  void OnBody(int lane, uint32_t generation, OperationId id, uint32_t body,
              uint32_t attempt, Actions& out);

  // The driver's answers.
  void OnAllocated(OperationId id, absl::Status status, Actions& out);
  void OnBodyRead(int lane, OperationId id, uint32_t body, BodyPlace place,
                  bool ok, Actions& out);
  // What was read of a message cannot get to where it is for: ends it. Not for
  // one that is complete.
  void Fail(OperationId id, absl::Status why, Actions& out);
  // Nobody reads the bodies of the kDigest any more.
  void OnDigested(OperationId id, Actions& out);
  // `status` is what the user was told.
  void OnDelivered(OperationId id, absl::Status status, Actions& out);
  // After OnBodyRead for everything that was read from it.
  void OnLaneEnded(int lane, Actions& out);

  void OnTime(absl::Time now, Actions& out);
  // The link ends; nothing more is sent. The driver closes all lanes.
  void End(absl::Status why, Actions& out);

  absl::Time next_deadline() const;
  // No message whose header has arrived is left.
  bool idle() const { return operations_.empty(); }
  bool waiting() const { return !receives_.empty(); }
  uint64_t staged_bytes() const { return staged_bytes_; }

 private:
  enum class State { kWaiting, kAllocating, kReading, kDelivering };
  enum class BodyState : uint8_t { kMissing, kReading, kHave };

  struct BodyEntry {
    BodyState state = BodyState::kMissing;
    BodyPlace place = BodyPlace::kSink;
    int lane = 0;
    uint32_t generation = 0;
    uint32_t attempt = 0;         // that was, or is being, read
    uint32_t wanted_attempt = 0;  // that counts, says the trailer
  };

  struct Entry {
    Header header;
    State state = State::kWaiting;
    ReceiveId receive = 0;  // that it was given to
    std::vector<BodyEntry> bodies;
    uint32_t missing = 0;       // not kHave
    uint32_t region_reads = 0;  // in the transport
    uint64_t staged_bytes = 0;  // against the window
    uint32_t digested = 0;      // leading bodies, those of a kDigest included
    bool digesting = false;
    bool digested_in_vain = false;  // one of them came again
    bool has_trailer = false;
    bool granted = false;
    bool closed = false;  // our last word was said; `status` is the Receive's
    absl::Status status;
  };

  struct Pending {
    ReceiveFilter filter;
    absl::Time deadline;
    OperationId operation = 0;  // 0: none yet
  };

  // A body whose fate is not known yet.
  struct Parked {
    bool used = false;
    uint32_t generation = 0;
    OperationId operation = 0;
    uint32_t body = 0;
    uint32_t attempt = 0;
  };

  struct Lane {
    Parked parked;
    int strays = 0;  // reads into memory that no open operation answers for
  };

  bool Fits(const ReceiveFilter& filter, const Header& header) const;
  std::set<ReceiveId>& UnpairedLike(ReceiveId id);
  ReceiveId FindReceive(const Header& header) const;
  absl::Status CheckHeader(const Header& header, ReceiveId receive) const;
  absl::Status CheckBytes(const Header& header) const;
  absl::Status CheckWaiting(const Header& header) const;
  void Open(OperationId id, Header header, ReceiveId receive, Actions& out);
  void StopWaiting(OperationId id, const Entry& entry);
  void Pair(OperationId id, Entry& entry, ReceiveId receive, Actions& out);
  bool TakeBody(int lane, const Parked& body, Actions& out);
  bool TakeBodyOf(Entry& entry, int lane, const Parked& body, Actions& out);
  bool Sink(int lane, const Parked& body, Actions& out);
  bool Stage(OperationId id, Entry& entry, uint64_t nbytes, Actions& out);
  void Unstage(Entry& entry, uint64_t nbytes);
  static bool IsComplete(const Entry& entry);
  void Read(int lane, const Parked& body, BodyPlace place, Actions& out);
  void TakeParked(Actions& out);
  void HaveRead(OperationId id, Entry& entry, uint32_t body, BodyPlace place,
                bool ok, Actions& out);
  void MaybeDigest(OperationId id, Entry& entry, Actions& out);
  void MaybeDeliver(OperationId id, Entry& entry, Actions& out);
  void StopCounting(const Entry& entry);
  void CloseOperation(OperationId id, Entry& entry, absl::Status status,
                      Actions& out);
  void Fence(OperationId id, const Entry& entry, Actions& out);
  void MaybeDrop(OperationId id, Actions& out);
  void FinishReceive(ReceiveId id, absl::Status status, Actions& out);
  void ReleaseWindow(Entry& entry);
  void Lie(OperationId id, absl::string_view what, Actions& out);

  const Settings settings_;
  bool ended_ = false;
  absl::Status why_;        // it ended; for what was under way to the loop then
  OperationId newest_ = 0;  // of all headers
  std::map<OperationId, Entry> operations_;
  std::set<OperationId> unclaimed_;  // kWaiting
  std::map<ReceiveId, Pending> receives_;
  // Without a message: those that name what they want, and those that do not.
  std::set<ReceiveId> naming_, taking_any_;
  std::set<std::pair<absl::Time, ReceiveId>> deadlines_;
  std::vector<Lane> lanes_;  // [0] is not used
  uint64_t staged_bytes_ = 0;
  uint32_t open_ = 0;  // operations that wait for our last word
  uint64_t open_bytes_ = 0;
  uint64_t unclaimed_manifest_bytes_ = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_RECEIVE_MACHINE_H_
