#ifndef TENSORFERRY_TRANSFER_LANES_H_
#define TENSORFERRY_TRANSFER_LANES_H_

#include <tensorpipe/core/context.h>
#include <tensorpipe/core/message.h>
#include <tensorpipe/core/pipe.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/loop.h"
#include "channel/copy_reader.h"
#include "pool/buffer_pool.h"
#include "pool/lease_space.h"
#include "transfer/backend_registry.h"
#include "transfer/frame_codec.h"
#include "transfer/lane.h"
#include "transfer/lane_context.h"
#include "transfer/lane_listener.h"
#include "transfer/receipt.h"
#include "transfer/reopening.h"
#include "transfer/rules.h"
#include "transport/hub.h"

namespace tensorferry {

// All lanes between two peers: opens and tells them apart, opens the next
// generation of a body lane that has ended, and carries frames and bodies.
// Belongs to its loop.
//
// The hub lets in only who knows the session's key, for as long as the session
// lives. The dialing side tries the peer's addresses one after the other until
// one of them can be reached.
class Lanes {
 public:
  // With what carried it; empty if not `ok`, and nothing is known.
  using BodyDone =
      absl::AnyInvocable<void(bool ok, std::vector<PathUse> uses) &&>;

  // What happens, on the loop. Never called within a method of Lanes, but for
  // Accept and Dial.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnUp() = 0;  // all lanes, once
    virtual void OnFrame(Frame frame, std::string inline_bytes) = 0;
    virtual void OnFrameWritten() = 0;  // that SendFrame was given
    // A body is described on `lane`; see described().
    virtual void OnBody(int lane, uint32_t generation, BodyTag tag) = 0;
    // Where in an arena that the peer may be given this lies, to be read there;
    // nullopt: it is not lent. Also within calls.
    virtual std::optional<BufferPool::Place> PlaceOfLent(const void* data,
                                                         uint64_t nbytes) = 0;
    // Who reads along while this is copied; null: nobody. Also within calls.
    virtual std::shared_ptr<CopyReader> ReaderOf(CopyWay way, const void* data,
                                                 uint64_t nbytes) = 0;
    virtual void OnLaneUp(int lane, uint32_t generation) = 0;
    virtual void OnLaneEnded(int lane) = 0;
    // Not to be repaired; the owner has to Close.
    virtual void OnFailed(absl::Status why) = 0;
    virtual void OnClosed() = 0;  // after Close: the transport holds nothing
  };

  struct Options {
    Loop* loop = nullptr;
    Hub* hub = nullptr;
    Executor* copier = nullptr;
    std::shared_ptr<BufferPool> pool;  // for channels; null: there is none
    std::shared_ptr<const LeaseSpace> leases;  // where what is lent may be put
    const BackendRegistry* backends = nullptr;
    TransferRules rules;
    std::string key;
    // For a connection that was accepted to say a HELLO that is right.
    absl::Duration greet_within = absl::InfiniteDuration();
    Owner* owner = nullptr;
  };

  explicit Lanes(Options options);

  // First, on any thread: lets the peer in until `unused_until`. Returns the
  // addresses, the best first.
  absl::StatusOr<std::vector<std::string>> Expect(absl::Time unused_until);
  void Accept();
  // Or this, instead of both.
  void Dial(std::vector<std::string> addresses);

  void SendFrame(const Frame& frame, std::string inline_bytes = "");
  // `sources`: the devices of the message's tensors.
  void WriteBody(int lane, tensorpipe::Message message,
                 const std::vector<DeviceId>& sources, BodyDone done);
  // What OnBody was about, until ReadBody; all of whose tensors must then have
  // a target.
  const tensorpipe::Descriptor& described(int lane) const;
  void ReadBody(int lane, tensorpipe::Allocation allocation, BodyDone done);
  // Until this is gone, on the loop, the lane keeps what is described on it.
  // Null: it has ended, and ReadBody will fail.
  std::shared_ptr<void> HoldBody(int lane);
  // Ends a generation of a lane. No effect if it has ended.
  void Reset(int lane, uint32_t generation, absl::Status why);
  void Close(absl::Status why);

  int body_lanes() const { return static_cast<int>(slots_.size()) - 1; }
  // The path between a local and a remote device on `lane`; empty: none.
  std::string PathTo(int lane, const DeviceId& local,
                     const DeviceId& remote) const;
  // Whether all lanes can carry what is lent.
  bool CarryLoans() const;
  // The wires that were tried before the one in use, and why in vain.
  std::vector<PathUse> UnreachableWires() const;
  // Whether the peer may not have read so many that OnFrameWritten will come
  // when it has.
  bool ManyFramesUnread() const;
  // Frames that the transport has not taken yet.
  size_t frames_pending() const;

  // To be joined, off the loop; after OnClosed. Empty if joining would hang.
  std::vector<std::shared_ptr<tensorpipe::Context>> TakeContexts();

 private:
  // A connection, be it greeted or not.
  struct Connection {
    std::shared_ptr<Lane> lane;
    size_t context = 0;
    int index = -1;  // of its slot; -1: not known yet
    uint32_t generation = 0;
    bool greeted = false;   // by a HELLO that is right
    bool turned = false;    // away: nothing more is read
    absl::Status hopeless;  // not OK: why no HELLO of this peer's ever will be
    Loop::TimerId greet_timer = 0;  // 0: none is set
  };

  struct Slot {
    Lane* lane = nullptr;     // greeted and not ended
    Lane* dialing = nullptr;  // not yet greeted
    uint32_t generation = 0;
    size_t context = 0;
    std::string wire;
    std::vector<ChannelDescription> peer;
    std::optional<tensorpipe::Descriptor> described;
    absl::Time reopen_by = absl::InfiniteFuture();
    absl::Status ended_with;  // the last connection
  };

  // Part of a body, on this side.
  struct Part {
    std::string path;
    const void* memory = nullptr;
    uint64_t nbytes = 0;
  };

  SessionKey Key() const;
  ContextEvents Events();
  absl::Status AddContext(
      std::optional<Wire> wire,
      std::shared_ptr<tensorpipe::transport::Context> transport);
  void OnListenerEnded(absl::Status why);
  Connection& Open(std::shared_ptr<tensorpipe::Pipe> pipe, int index,
                   uint32_t generation);
  absl::Status BeginDialing(const std::string& address);
  void DialNext(absl::Status last);
  absl::Status WithAllTried(absl::Status last) const;
  void DialLane(int index, uint32_t generation);
  bool MayDialNext(const absl::Status& why) const;
  void GiveUpWire(absl::Status why);
  HelloFrame MakeHello(const Connection& connection) const;
  void OnDescriptor(Lane* key, tensorpipe::Descriptor descriptor);
  void OnBodyDescriptor(Connection& connection,
                        tensorpipe::Descriptor descriptor);
  void OnFirstFrame(Lane* key, absl::StatusOr<Frame> frame);
  absl::Status CheckHello(const HelloFrame& hello) const;
  absl::Status CheckWire(const std::string& wire) const;
  absl::Status CheckReply(const Connection& connection,
                          const HelloFrame& hello) const;
  void OnNotGreeted(Lane* key);
  void Turn(Connection& connection, absl::Status why);
  void Adopt(Connection& connection, HelloFrame hello);
  void TakeGivenUp(std::vector<GivenUpPath> given_up);
  void OnLaneFrame(Frame frame, std::string inline_bytes);
  void OnReopen(ReopenFrame reopen);
  void OnEnded(Lane* key, absl::Status why);
  void Do(int lane, LaneDials::Next next);
  Part PartOf(int lane, const tensorpipe::Buffer& buffer, uint64_t nbytes,
              const DeviceId& local, const tensorpipe::Device& remote) const;
  Lane::Written Tallied(std::vector<Part> parts, BodyDone done);
  std::vector<PathUse> UsesOf(const std::vector<Part>& parts, bool ok);
  void OnCopy(bool begun);
  void OnWedged(const absl::Status& why);
  void ReleaseSoon();
  void ReleaseUnlessCopying();
  void ArmReopenTimer(Slot& slot);
  void OnReopenTimer();
  void Fail(absl::Status why);
  void MaybeClosed();
  bool AllUp() const;
  std::string NameOf(int index) const;

  const Options options_;
  Loop* const loop_;
  Owner* const owner_;
  bool accepts_ = false, listening_ = false;
  bool up_ = false, failed_ = false, closing_ = false, closed_ = false;
  bool broken_ = false;  // tensorpipe threw
  int copies_ = 0;       // that channels make into buffers
  uint64_t frames_sent_ = 0;
  uint64_t frames_taken_ = 0;  // of these, by the socket for certain
  std::vector<Slot> slots_;
  LaneOffers offers_;  // on the accepting side
  LaneDials dials_;    // on the dialing side
  std::map<Lane*, Connection> connections_;
  std::vector<LaneContext> contexts_;       // the last one is for new lanes
  std::shared_ptr<LaneListener> listener_;  // until it has ended
  // The dialing side.
  std::deque<std::string> addresses_;  // not tried yet
  std::string address_, wire_;         // in use
  std::vector<GivenUpPath> given_up_;  // wires, in the order they were tried
  Loop::TimerId reopen_timer_ = 0;     // 0: none is set
  // What channels said of buffers whose body is not done yet.
  std::unordered_multimap<const void*, Carried> carried_;
  // Gone once nothing more is heard of the contexts.
  std::shared_ptr<Lanes*> self_ = std::make_shared<Lanes*>(this);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LANES_H_
