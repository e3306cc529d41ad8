#ifndef TENSORFERRY_TRANSFER_SEND_MACHINE_H_
#define TENSORFERRY_TRANSFER_SEND_MACHINE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/limits.h"
#include "transfer/pieces.h"

namespace tensorferry {

using OperationId = uint64_t;

// What the driver of a SendMachine has to do, in order.
struct SendAction {
  enum class Kind {
    kHeader,       // send HEADER (with the bytes, for an inline operation)
    kDigest,       // compute the digests, then OnDigest
    kCopyBody,     // copy what of `body` has to cross as host memory there,
                   // then OnBodyCopied
    kWriteBody,    // write `body` to `lane`, then OnBodyWritten
    kTrailer,      // send TRAILER with AttemptsOf
    kCancelFrame,  // send CANCEL with `status`
    kResetLane,    // end this generation of `lane`
    kFinish,       // nobody touches the buffers: tell the user `status`
    kEndLink,      // the peer broke the protocol: end everything with `status`
  };
  Kind kind = Kind::kHeader;
  OperationId operation = 0;
  int lane = 0;
  uint32_t generation = 0;
  uint32_t body = 0;
  uint32_t attempt = 0;  // kWriteBody
  absl::Status status;
};

// The sender's half of the transfer protocol for one direction of a session:
// pure, so that it can be simulated. Knows no lanes, tensors, threads or
// clocks; time arrives in events. Every event appends to `out` what has to be
// done now; an action must be carried out before the next event is put in.
//
//   queued -> header sent -> bodies (granted, or eager within the window; some
//             copied first) -> trailer -> ACK -> finished
//
// An operation is finished for its user once it has a status and the transport
// holds none of its buffers. It is forgotten only after the peer's last word on
// it (ACK or REFUSE) too: until then it counts against the limits, and the
// bytes that were sent eagerly against the window.
class SendMachine {
 public:
  using Actions = std::vector<SendAction>;

  struct Settings {
    Limits limits;
    int body_lanes = 1;  // numbered from 1
    bool digests = true;
    int writes_per_lane = 2;  // kept in the transport at a time
    // Bodies that are copied at a time, until they were written: of one
    // operation, and of all on one stream. A stream may stand still, and holds
    // up no other.
    int copies_per_operation = 4, copies_per_stream = 8;
  };

  struct Request {
    bool is_inline = false;
    bool may_be_eager = false;  // all bodies go to host memory
    uint64_t nbytes = 0;
    std::vector<uint64_t> body_nbytes;  // empty if inline
    // The same: on which stream it is copied first, by any number but 0, which
    // is for one that is not. Empty: none is.
    std::vector<uint64_t> copied_on;
    // Digests are computed when all bodies were written, not meanwhile: most of
    // the bytes are digested as they are copied.
    bool digest_last = false;
    absl::Time deadline = absl::InfiniteFuture();
  };

  explicit SendMachine(Settings settings);

  // The link is up: headers may leave.
  void OnUp(Actions& out);
  // Ids must grow from call to call.
  void Submit(OperationId id, Request request, Actions& out);
  // Ends the operation with `why`, once its buffers are free.
  void Cancel(OperationId id, absl::Status why, Actions& out);

  // Frames of the peer.
  void OnGrant(OperationId id, Actions& out);
  void OnRefuse(OperationId id, absl::Status status, Actions& out);
  void OnAck(OperationId id, absl::Status status, Actions& out);

  // The driver's answers.
  void OnDigest(OperationId id, Actions& out);
  // Not `ok`: it could not be, and the operation is cancelled.
  void OnBodyCopied(OperationId id, uint32_t body, bool ok, Actions& out);
  // The transport has let go of the body's buffers, and of its copy. Not `ok`:
  // its lane is ending.
  void OnBodyWritten(int lane, OperationId id, uint32_t body, bool ok,
                     Actions& out);
  void OnLaneUp(int lane, uint32_t generation, Actions& out);
  // After OnBodyWritten for everything that was written to it.
  void OnLaneEnded(int lane, Actions& out);

  void OnTime(absl::Time now, Actions& out);
  // The link ends; nothing more is sent. The driver closes all lanes.
  void End(absl::Status why, Actions& out);

  // Of the bodies of an operation whose last attempt is not their first.
  std::vector<BodyAttempt> AttemptsOf(OperationId id) const;
  // When OnTime has something to do.
  absl::Time next_deadline() const;
  // No operation is left, not even one that waits for the peer's last word.
  bool idle() const { return operations_.empty(); }
  uint64_t eager_bytes() const { return eager_bytes_; }

 private:
  enum class BodyState : uint8_t {
    kToSend,
    kCopying,
    kCopied,
    kWriting,
    kWritten,
    kLost,
  };

  struct BodyEntry {
    BodyState state = BodyState::kToSend;
    bool charged = false;   // against the eager window
    bool has_copy = false;  // or is being copied
    uint32_t attempt = 0;
    int lane = 0;  // that it was last written to
  };

  struct Entry {
    Request request;
    std::vector<BodyEntry> bodies;
    uint64_t eager_bytes = 0;
    uint32_t next_body = 0;  // no earlier one is kToSend
    uint32_t unwritten = 0;  // not kWritten
    uint32_t writes = 0;     // in the transport
    uint32_t copying = 0;    // kCopying
    int copies = 0;          // these, and copies that were not written yet
    bool begun = false;      // header sent
    bool granted = false;
    bool trailer_sent = false;  // since a body was last written
    bool trailer_ever = false;
    bool digest_started = false, digest_running = false;
    bool ending = false;    // `status` is decided
    bool finished = false;  // and the user was told
    bool closed = false;    // the peer has said its last word
    absl::Status status;
  };

  struct Lane {
    bool up = false;
    uint32_t generation = 0;
    int writes = 0;
  };

  using Operations = std::map<OperationId, Entry>;

  Entry* FindBegun(OperationId id, absl::string_view frame, Actions& out);
  absl::Status CheckQueue(const Entry& entry) const;
  bool MayBegin(const Entry& entry) const;
  void BeginQueued(Actions& out);
  void Begin(OperationId id, Entry& entry, Actions& out);
  void WriteBodies(Actions& out);
  int FreeLane() const;
  void WriteCopied(Actions& out);
  bool StartNextBody(OperationId id, Entry& entry, Actions& out);
  void WriteBody(OperationId id, Entry& entry, uint32_t index, Actions& out);
  bool MayCopy(const Entry& entry, uint64_t stream) const;
  void ReleaseCopy(Entry& entry, uint32_t body);
  void ReleaseCopies(Entry& entry);
  bool MayWrite(const Entry& entry, const BodyEntry& body,
                uint64_t nbytes) const;
  void MaybeDigest(OperationId id, Entry& entry, Actions& out);
  void MaybeSendTrailer(OperationId id, Entry& entry, Actions& out);
  static void Decide(Entry& entry, absl::Status status);
  void Fence(OperationId id, const Entry& entry, Actions& out);
  void MaybeFinish(OperationId id, Actions& out);
  void ReleaseWindow(Entry& entry);
  void Lie(OperationId id, absl::string_view what, Actions& out);
  bool HasBodyToSend(const Entry& entry) const;

  const Settings settings_;
  bool up_ = false;
  bool ended_ = false;
  absl::Status why_;  // it ended; for what was under way to the loop then
  Operations operations_;
  OperationId last_begun_ = 0;
  std::deque<OperationId> turn_;  // begun, with bodies to send, in rotation
  std::deque<std::pair<OperationId, uint32_t>> copied_;  // bodies to write
  std::map<uint64_t, int> copies_;                       // by stream
  std::set<std::pair<absl::Time, OperationId>> deadlines_;
  std::vector<Lane> lanes_;  // [0] is not used
  uint64_t eager_bytes_ = 0;
  uint32_t in_flight_ = 0, queued_ = 0;
  uint64_t in_flight_bytes_ = 0, queued_bytes_ = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_SEND_MACHINE_H_
