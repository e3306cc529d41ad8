#ifndef TENSORFERRY_CHANNEL_BUFFER_EXCHANGE_H_
#define TENSORFERRY_CHANNEL_BUFFER_EXCHANGE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "channel/channel_session.h"
#include "channel/local_frame.h"
#include "channel/offered_buffers.h"
#include "channel/peer_memory.h"
#include "channel/wanted_buffers.h"
#include "pool/arena.h"
#include "third_party/tensorpipe/plugin_interface.h"

namespace tensorferry {

// One local channel at work: two directions over one connection. It lives on
// the session's loop; public methods may be called on any thread.
class BufferExchange : public std::enable_shared_from_this<BufferExchange> {
 public:
  using Callback = std::function<void(const tensorpipe::Error&)>;

  BufferExchange(std::shared_ptr<ChannelSession> session,
                 std::shared_ptr<tensorpipe::transport::Connection> connection);

  // Says hello. Once, before anything else.
  void Start();
  void Send(const void* data, uint64_t length, Callback callback);
  void Receive(void* data, uint64_t length, Callback callback);
  void Close();

 private:
  // The callbacks of one direction, oldest first.
  struct Direction {
    std::deque<Callback> callbacks;
    int in_use = 0;  // operations that touch buffers now
  };
  // One task at a time for the copier.
  struct CopierTask {
    // It has begun, or is not to.
    std::shared_ptr<std::atomic<bool>> claimed =
        std::make_shared<std::atomic<bool>>(true);
  };
  // Has what the peer handed over for it, or why that cannot be used; nullopt:
  // nothing was.
  template <class PeersArena>
  using ArenaPlace = std::optional<absl::StatusOr<std::shared_ptr<PeersArena>>>;
  // An arena that the peer was given.
  struct HandedOver {
    std::weak_ptr<const Arena> arena;
    std::string cannot;  // why it cannot write there; empty: it can
  };
  // A send that waits for HELLO, without which it is not known whether arenas
  // can be handed over.
  struct Held {
    const void* data = nullptr;
    uint64_t length = 0;
  };

  void Post(std::function<void(BufferExchange&)> task);
  Callback OnLoop(std::function<void(BufferExchange&)> then);
  void WriteFrame(const LocalFrame& frame);
  void WritePiece(const OfferedBuffers::Piece& piece);

  void Read(void* to, uint64_t length,
            std::function<void(BufferExchange&)> then);
  void ReadFrame();
  void OnFrame();
  absl::Status Handle(const LocalFrame& frame);
  void OnHello(const LocalFrame& hello);
  void OnProof(const absl::StatusOr<PeerMemory>& proof);
  absl::Status ReadData(const LocalFrame& data);
  absl::Status OnCannot(const LocalFrame& cannot);

  void Advance();
  absl::Status TakeSteps();
  WantedBuffers::Place PlaceFor(const void* data, uint64_t length) const;
  absl::Status Want(const WantedBuffers::Open& buffer);
  std::optional<uint8_t> HandOver(LocalFrame::Kind how,
                                  std::shared_ptr<const Arena> arena,
                                  absl::Span<HandedOver> places);
  void WriteWithArena(LocalFrame frame, std::shared_ptr<const Arena> arena);
  absl::StatusOr<UniqueFd> TakeDescriptor(const LocalFrame& frame);
  template <class PeersArena, class Open>
  absl::Status OpenArena(ArenaPlace<PeersArena>& place, const LocalFrame& frame,
                         Open open);
  template <class PeersArena>
  void LetGo(ArenaPlace<PeersArena>& place);
  void Offer(const void* data, uint64_t length);
  std::optional<absl::StatusOr<OfferedBuffers::Loan>> LoanOf(const void* data,
                                                             uint64_t length);
  static absl::Status CheckLoan(const WantedBuffers::Lease& lease,
                                uint64_t nbytes);
  absl::Status StartLease(const WantedBuffers::Lease& lease);
  void OnLeased(const absl::Status& status);
  absl::Status PlaceNext();
  std::shared_ptr<CopyReader> ReaderOf(CopyWay way, const void* data,
                                       uint64_t length) const;
  void ReadNext();
  void OnRead(const absl::Status& status);
  void StartPlacing(std::shared_ptr<PeerArena> arena,
                    const OfferedBuffers::Copy& copy);
  void CopyInSteps(PeerArena& arena, const OfferedBuffers::Copy& copy,
                   CopyReader* reader, bool on_loop);
  absl::Status CheckPlace(const OfferedBuffers::Copy& copy) const;
  void OnPlaced(const absl::Status& status);
  void FenceOpenBuffers();
  template <class Work, class Then>
  void RunOnCopier(CopierTask& task, Work work, Then then);
  template <class Work, class Then>
  void RunHere(Work work, Then then);
  bool GiveUp(CopierTask& task);
  void GiveUpQueued();
  void StartCopy(const WantedBuffers::Copy& copy);
  void BeginCopy(Direction& direction);
  void EndCopy(Direction& direction);
  void OnCopied(const absl::Status& status);

  bool failed() const { return static_cast<bool>(error_); }
  void Fail(const absl::Status& status);
  void Fail(const tensorpipe::Error& error);
  void Settle();
  template <class Buffers>
  void CallBack(Direction& direction, Buffers& buffers);
  void Call(const Callback& callback, const tensorpipe::Error& error);

  const std::shared_ptr<ChannelSession> session_;
  const std::shared_ptr<tensorpipe::transport::Connection> connection_;
  PlacedNonce nonce_;

  LocalFrameBytes incoming_;  // the frame being read
  bool greeted_ = false;      // HELLO has come
  // Of the peer's memory, which may not be proved; nullopt: not known yet.
  std::optional<absl::StatusOr<PeerMemory>> memory_;

  OfferedBuffers offered_;
  WantedBuffers wanted_;
  Direction sends_, receives_;

  tensorpipe::Error error_;
  int pending_ = 0;     // callbacks that connection, copier and loop owe
  CopierTask reading_;  // the proof, then pieces of the peer's memory
  CopierTask placing_;  // pieces to the peer's arenas
  CopierTask along_;    // what the peer has placed, to who reads along
  CopierTask opening_;  // an arena of the peer's; no frame is read meanwhile
  bool left_ = false;

  absl::Status no_pool_;  // why the connection carries no arenas
  // By their places: this side's that the peer was given, and the peer's.
  std::array<HandedOver, kMostArenas> handed_over_;
  std::array<ArenaPlace<PeerArena>, kMostArenas> places_;
  // The same of what is lent.
  std::array<HandedOver, kMostLentArenas> lent_;
  std::array<ArenaPlace<const LentArena>, kMostLentArenas> leased_from_;
  std::deque<Held> held_;  // sends
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_BUFFER_EXCHANGE_H_
