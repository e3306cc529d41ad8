#ifndef TENSORFERRY_TRANSFER_INCOMING_MESSAGES_H_
#define TENSORFERRY_TRANSFER_INCOMING_MESSAGES_H_

#include <tensorpipe/core/message.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/done.h"
#include "channel/copy_reader.h"
#include "serialization/arrival_digest.h"
#include "serialization/buffers.h"
#include "serialization/chunked_digests.h"
#include "serialization/digest.h"
#include "transfer/copy_digests.h"
#include "transfer/frame_codec.h"
#include "transfer/leased_memory.h"
#include "transfer/link.h"
#include "transfer/link_host.h"
#include "transfer/path_tally.h"
#include "transfer/pieces.h"
#include "transfer/pooled_memory.h"
#include "transfer/receive_machine.h"

namespace tensorferry {

// A Receive that waits for its message.
struct Receiving {
  ReceiveOptions options;
  std::vector<Region> filled;  // one for each stream that fills options.into
  absl::Time start, deadline;
  Done<Received> done;
};

// The receiving direction of a link: carries out what a ReceiveMachine decides.
// Belongs to the loop.
class IncomingMessages {
 public:
  explicit IncomingMessages(LinkHost* host);

  // On the devices: what fills the tensors to receive into comes after what
  // uses them now. Any thread: reads only what does not change.
  // FAILED_PRECONDITION: no stream for a device.
  static absl::Status Prepare(const LinkHost& host, Receiving& receiving);

  void Receive(ReceiveId id, std::unique_ptr<Receiving> receiving);
  void Cancel(ReceiveId id);
  void OnHeader(HeaderFrame frame, std::string inline_bytes);
  void OnTrailer(TrailerFrame frame);
  void OnCancel(const CancelFrame& frame);
  void OnBody(int lane, uint32_t generation, const BodyTag& tag);
  void OnLaneEnded(int lane);
  void OnFrameWritten() { TellOfReturned(); }
  void OnTime(absl::Time now);
  void End(const absl::Status& why);

  std::shared_ptr<CopyReader> ReaderOf(const void* data, uint64_t nbytes) {
    return copy_digests_.ReaderOf(data, nbytes);
  }

  absl::Time next_deadline() const { return machine_.next_deadline(); }
  bool idle() const { return machine_.idle(); }
  // Any thread.
  uint64_t bytes_received() const { return bytes_received_; }
  uint64_t messages_received() const { return messages_received_; }

 private:
  using StagedBodies = std::map<uint32_t, std::unique_ptr<std::byte[]>>;
  // A message that arrives. Shared with the work on the executor: allocating
  // only reads the manifest, delivering has it all to itself.
  struct Message {
    Manifest manifest;  // until `buffers` has it
    Envelope envelope;
    bool is_inline = false;
    std::string inline_bytes;
    std::vector<uint32_t> lent;  // buffers, of which the receiver has a lease
    bool leases = false;         // if it takes it
    // While it is received: nobody lends what its user receives into later.
    std::unique_ptr<LeasedMemory> leased;
    BodyCut cut;
    std::optional<ReadBuffers> buffers;
    StagedBodies staged;            // by body
    std::vector<uint64_t> digests;  // that its sender computed
    // What is digested while it is copied here; the loop's. Null: nothing.
    std::unique_ptr<DigestsAlong> along;
    // The digest of the bodies that have come; used by one task on the executor
    // at a time.
    std::unique_ptr<ArrivalDigest> arrived;
    PathTally paths;

    Undigested undigested() const {
      return leases ? Undigested(lent) : Undigested();
    }
    const Manifest& described() const {
      return buffers ? buffers->manifest() : manifest;
    }
  };
  // A message that is all there, on its way to its user.
  struct Delivery {
    OperationId id = 0;
    std::shared_ptr<Message> message;
    std::shared_ptr<Receiving> receiving;
    uint32_t digested = 0;              // leading bodies
    absl::StatusOr<HostCopies> copies;  // of devices, to be digested
    absl::StatusOr<Received> received;
    std::vector<Region> streams;  // that it was filled on
  };
  // Memory for what of a body does not go to its place at once; released by the
  // read.
  struct Aside {
    std::unique_ptr<std::byte[]> bytes;
    std::vector<c10::DataPtr> host_memory;  // in the order of the body's pieces
    absl::Status host_status;               // why there is none for them
  };

  template <class Event>
  void Run(Event event);
  void Do(ReceiveAction& action);
  absl::Status Describe(const HeaderFrame& frame, const std::string& bytes,
                        Message& message) const;
  AllocateOptions TakeOptions(Receiving& receiving,
                              const Message& message) const;
  LinkHost::Weight WeightOfAllocation(const Message& message,
                                      const Receiving& receiving) const;
  LinkHost::Weight WeightOfDelivery(const Message& message,
                                    uint32_t digested) const;
  void AllocateMemory(const ReceiveAction& action);
  bool MayLease(const Message& message, const Receiving& receiving) const;
  std::unique_ptr<LeasedMemory> MemoryToLease(OperationId id);
  std::shared_ptr<PooledMemory> PoolFor(const Message& message) const;
  void Grant(OperationId id);
  void OnReturned(OperationId id);
  void TellOfReturned();
  void ReadBody(const ReceiveAction& action);
  void ReadThroughHost(const ReceiveAction& action);
  void ReadInto(const ReceiveAction& action, Aside aside);
  absl::Status CheckBody(const tensorpipe::Descriptor& descriptor,
                         const Message& message, uint32_t body) const;
  static absl::Status CheckUnwanted(const tensorpipe::Descriptor& descriptor);
  absl::StatusOr<std::vector<c10::DataPtr>> HostMemoryFor(
      const Message& message, const ReadBuffers& buffers, uint32_t body) const;
  absl::Status MakeHostMemory(const Message& message,
                              const ReadBuffers& buffers) const;
  bool IsCopied(const Message& message, int buffer) const;
  bool HasCopied(const Message& message, uint32_t body) const;
  static absl::Status TakeBytes(uint64_t nbytes, Aside& aside);
  absl::StatusOr<tensorpipe::Allocation> PlaceInRegions(const Message& message,
                                                        uint32_t body,
                                                        Aside& aside) const;
  absl::Status CopyFromHost(const Message& message, uint32_t body,
                            Aside& aside) const;
  absl::StatusOr<tensorpipe::Allocation> PlaceAside(
      const tensorpipe::Descriptor& descriptor, Aside& aside) const;
  absl::StatusOr<tensorpipe::Allocation> Place(
      const ReceiveAction& action, const tensorpipe::Descriptor& descriptor,
      Aside& aside) const;
  absl::Status CheckPath(int lane,
                         const tensorpipe::Descriptor& descriptor) const;
  void OnBodyRead(const ReceiveAction& action, const std::vector<PathUse>& uses,
                  uint64_t nbytes, Aside aside, bool ok);
  static void ForgetDigests(Message& message);
  void BeginDigest(Message& message,
                   std::shared_ptr<ChunkedDigests> digests) const;
  std::vector<const void*> ExpectCopies(Message& message, uint32_t body);
  void DigestArrived(const ReceiveAction& action);
  void Deliver(const ReceiveAction& action);
  void CopyToDigest(std::shared_ptr<Delivery> delivery);
  void VerifyAndTell(std::shared_ptr<Delivery> delivery);
  static uint64_t BytesOfOurs(const Message& message);
  bool HasAtOnce(const Message& message) const;
  static uint32_t DigestedBodies(const Message& message,
                                 const ReceiveAction& action);
  static uint64_t BytesToDigest(const Message& message, uint32_t digested);
  LinkHost::Afterwards Conclude(Delivery& delivery,
                                const absl::Status& reached);
  absl::Status Fill(Delivery& delivery) const;
  static void Unstage(const StagedBodies& staged, const Message& message);
  std::vector<uint64_t> DigestsOf(Delivery& delivery) const;
  absl::StatusOr<Received> Verify(Delivery& delivery) const;
  void FinishReceive(ReceiveId id, const absl::Status& status);

  LinkHost* const host_;
  ReceiveMachine machine_;
  CopyDigests copy_digests_;
  std::map<OperationId, std::shared_ptr<Message>> messages_;
  std::map<ReceiveId, std::unique_ptr<Receiving>> receivings_;
  uint64_t promised_ = 0;           // of the pool at most, and not taken yet
  std::set<OperationId> leased_;    // and not returned
  std::vector<uint64_t> returned_;  // of which the peer is to be told
  std::atomic<uint64_t> bytes_received_ = 0, messages_received_ = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_INCOMING_MESSAGES_H_
