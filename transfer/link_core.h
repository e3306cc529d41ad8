#ifndef TENSORFERRY_TRANSFER_LINK_CORE_H_
#define TENSORFERRY_TRANSFER_LINK_CORE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "base/loop.h"
#include "transfer/incoming_messages.h"
#include "transfer/lanes.h"
#include "transfer/link.h"
#include "transfer/link_host.h"
#include "transfer/outgoing_messages.h"

namespace tensorferry {

class DigestHelpers;

// A link: its lanes, its two directions, and the user's side of it. Held by
// its endpoint until it is closed, and by whatever is under way; the handle
// that users get only points here.
class LinkCore : public LinkHost,
                 public Lanes::Owner,
                 public std::enable_shared_from_this<LinkCore> {
 public:
  struct Options {
    Loop* loop = nullptr;
    Hub* hub = nullptr;
    Executor* executor = nullptr;
    Executor* copier = nullptr;  // for channels that copy
    DigestHelpers* digest_helpers = nullptr;
    const BackendRegistry* backends = nullptr;
    const ConverterRegistry* converters = nullptr;
    BufferSource* buffers = nullptr;   // the user's, without a pool; else
    std::shared_ptr<BufferPool> pool;  // null: libtorch's allocator
    std::string key;
    absl::Duration greet_within;  // see Lanes
    TransferRules rules;
    // Once, on the executor: the link is up, or never will be.
    DoneStatus on_up;
    // At most once, on the executor: an up link has ended by itself.
    DoneStatus on_down;
    // Once, on the loop, as the last thing: the contexts to join.
    std::function<void(LinkCore*,
                       std::vector<std::shared_ptr<tensorpipe::Context>>)>
        on_gone;
  };

  explicit LinkCore(Options options);
  ~LinkCore() override = default;

  // Then the first two, or the third, on any thread. Expect returns where a
  // peer can reach it.
  absl::StatusOr<std::vector<std::string>> Expect(absl::Time unused_until);
  void Accept(absl::Duration timeout);
  void Dial(std::vector<std::string> addresses, absl::Duration timeout);

  // The user's side; any thread.
  Operation Send(TensorMessage message, Envelope envelope, SendOptions options,
                 Done<Receipt> done);
  Operation Receive(ReceiveOptions options, Done<Received> done);
  void Drain(DoneStatus drained);
  void AnnounceEnd(absl::Status why);
  void Close(absl::Status why, DoneStatus closed);
  bool ended() const;
  LinkCounters counters() const;

  // Gives memory back that was not used for a while. On the loop.
  void Trim();

  // LinkHost
  void Work(Weight weight, absl::AnyInvocable<Afterwards() &&> work) override;
  void WhenReached(const std::vector<Region>& regions,
                   DoneStatus reached) override;
  void Tell(Task task, bool quick = false) override;
  void Later(Task task) override;
  std::function<void(Task)> PostWhileThere() override;
  void EndSoon(absl::Status why) override;
  void AfterEvent() override;

  // Lanes::Owner
  void OnUp() override;
  void OnFrame(Frame frame, std::string inline_bytes) override;
  void OnFrameWritten() override {
    incoming_.OnFrameWritten();
    AfterEvent();
  }
  void OnBody(int lane, uint32_t generation, BodyTag tag) override;
  std::shared_ptr<CopyReader> ReaderOf(CopyWay way, const void* data,
                                       uint64_t nbytes) override;
  std::optional<BufferPool::Place> PlaceOfLent(const void* data,
                                               uint64_t nbytes) override;
  void OnLaneUp(int lane, uint32_t generation) override;
  void OnLaneEnded(int lane) override;
  void OnFailed(absl::Status why) override;
  void OnClosed() override;

 private:
  struct FrameRouter;
  enum class Phase { kOpening, kUp, kEnding, kGone };

  void Start(absl::Duration timeout, Task open);
  // What is refused is told within the call: once the link is gone its executor
  // may be, too.
  absl::Status MaySend(Envelope::Kind kind) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // What to say to those who come after the end.
  absl::Status Closed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `task` on the loop if there is still one to run on. Returns whether.
  bool PostUnlessGone(Task task);
  void End(absl::Status why, bool by_user);
  void TellUp(absl::Status status);
  void ArmTimer();
  void OnTimer();
  void MaybeDrained();
  void MaybeGone();

  // Set before the link starts, and not changed.
  Loop* const loop_;
  Executor* const executor_;

  // The loop's.
  Lanes lanes_;
  OutgoingMessages outgoing_;
  IncomingMessages incoming_;
  Phase phase_ = Phase::kOpening;
  absl::Status why_;
  std::optional<absl::Status> announced_;  // for lanes that break
  bool doomed_ = false;                    // End is on its way
  bool lanes_closed_ = false;
  int work_pending_ = 0;
  DoneStatus on_up_, on_down_;
  decltype(Options::on_gone) on_gone_;
  std::vector<DoneStatus> drained_, closed_;
  absl::Time open_by_ = absl::InfiniteFuture();
  absl::Time armed_for_ = absl::InfiniteFuture();
  Loop::TimerId timer_ = 0;

  // Guards what users see; taken before the loop's own lock.
  mutable absl::Mutex mu_;
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mu_);  // not OK: why it is closed
  bool draining_ ABSL_GUARDED_BY(mu_) = false;
  OperationId last_send_ ABSL_GUARDED_BY(mu_) = 0;
  ReceiveId last_receive_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LINK_CORE_H_
