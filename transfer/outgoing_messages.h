#ifndef TENSORFERRY_TRANSFER_OUTGOING_MESSAGES_H_
#define TENSORFERRY_TRANSFER_OUTGOING_MESSAGES_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "serialization/buffers.h"
#include "serialization/digest.h"
#include "serialization/message.h"
#include "transfer/copy_digests.h"
#include "transfer/frame_codec.h"
#include "transfer/lendable_memory.h"
#include "transfer/link.h"
#include "transfer/link_host.h"
#include "transfer/path_tally.h"
#include "transfer/pieces.h"
#include "transfer/receipt.h"
#include "transfer/send_machine.h"

namespace tensorferry {

using Loans = std::vector<std::unique_ptr<LendableMemory::Loan>>;

// A message on its way out.
struct Sending {
  WriteBuffers buffers;
  BodyCut cut;
  HeaderFrame header;        // until it is sent
  std::string inline_bytes;  // likewise
  std::vector<uint64_t> digests;
  // Those that are computed while bodies are copied to the peer's pool, until
  // the rest is; null: none are.
  std::unique_ptr<DigestsAlong> digested_along;
  // What crosses as host memory, by body, from being copied to being written.
  std::map<uint32_t, HostCopies> host_copies;
  bool may_be_eager = false;
  bool done_is_quick = false;
  DigestScope digest_scope = DigestScope::kHost;
  std::shared_ptr<LendableMemory> lend;
  std::vector<uint32_t> lendable;  // buffers that lie there
  Loans loans;  // of what is to be lent, until a GRANT leases it or the end
  std::vector<uint32_t> lent;  // the same buffers, once the peer leases them
  bool header_sent = false, granted = false;
  absl::Time start, deadline;
  PathTally paths;
  Done<Receipt> done;
};

// The sending direction of a link: carries out what a SendMachine decides.
// Belongs to the loop, but for Prepare.
class OutgoingMessages {
 public:
  explicit OutgoingMessages(LinkHost* host);

  // Serializes `message` into `sending`. Any thread: reads only what does not
  // change. Statuses: those of Serialize.
  static absl::Status Prepare(const LinkHost& host, TensorMessage message,
                              const Envelope& envelope,
                              const SendOptions& options, Sending& sending);

  void OnUp();
  void Submit(OperationId id, std::unique_ptr<Sending> sending);
  void Cancel(OperationId id);
  void OnGrant(const GrantFrame& frame);
  void OnRefuse(const RefuseFrame& frame);
  void OnAck(const AckFrame& frame);
  void OnReturned(const ReturnedFrame& frame);
  void OnLaneUp(int lane, uint32_t generation);
  void OnLaneEnded(int lane);
  void OnTime(absl::Time now);
  void End(const absl::Status& why);

  std::shared_ptr<CopyReader> ReaderOf(const void* data, uint64_t nbytes) {
    return copy_digests_.ReaderOf(data, nbytes);
  }
  // Of what is lent now.
  std::optional<BufferPool::Place> PlaceOfLent(const void* data,
                                               uint64_t nbytes) const;

  absl::Time next_deadline() const { return machine_.next_deadline(); }
  bool idle() const { return machine_.idle(); }
  // Any thread.
  uint64_t bytes_sent() const { return bytes_sent_; }
  uint64_t messages_sent() const { return messages_sent_; }

 private:
  template <class Event>
  void Run(Event event);
  void Do(SendAction& action);
  // A peer that returns nothing makes this side keep no more.
  static constexpr size_t kMostLoans = size_t{1} << 14;  // operations

  void Lend(OperationId id, Sending& sending);
  absl::Status CheckPaths(const Manifest& manifest) const;
  void SendHeader(OperationId id);
  void ComputeDigest(OperationId id);
  void CopyOut(std::vector<Region> parts,
               absl::AnyInvocable<void(absl::StatusOr<HostCopies>) &&> then);
  void CopyToDigest(OperationId id);
  void Digest(OperationId id, HostCopies bytes);
  void LoseBody(const SendAction& action);
  std::vector<uint64_t> StreamsOfCopies(const Sending& sending) const;
  void CopyBody(const SendAction& action);
  void Fail(OperationId id, const absl::Status& why);
  void WriteBody(const SendAction& action);
  void DigestAlong(Sending& sending) const;
  std::vector<const void*> ExpectPoolCopies(const Sending& sending,
                                            uint32_t body);
  void SendTrailer(OperationId id);
  void Finish(OperationId id, absl::Status status);
  void TellOfEnd(OperationId id, std::unique_ptr<Sending> sending,
                 const absl::Status& status);
  Receipt MakeReceipt(OperationId id, const Sending& sending) const;

  LinkHost* const host_;
  SendMachine machine_;
  std::map<OperationId, std::unique_ptr<Sending>> sendings_;
  CopyDigests copy_digests_;
  // What the peer leases, until it says that it was returned.
  std::map<OperationId, Loans> loans_;
  // Where what is being handed over begins.
  std::multimap<const void*, std::shared_ptr<LendableMemory>> lending_;
  // Begun, but the peer never hears of them: before the next event this side
  // speaks its last word for it.
  std::vector<RefuseFrame> unsendable_;
  std::atomic<uint64_t> bytes_sent_ = 0, messages_sent_ = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_OUTGOING_MESSAGES_H_
