#ifndef TENSORFERRY_TRANSFER_LANES_H_
#define TENSORFERRY_TRANSFER_LANES_H_

#include <tensorpipe/core/context.h>
#include <tensorpipe/core/message.h>
#include <tensorpipe/core/pipe.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/loop.h"
#include "transfer/backend_registry.h"
#include "transfer/frame_codec.h"
#include "transfer/lane.h"
#include "transfer/lane_context.h"
#include "transfer/lane_listener.h"
#include "transfer/reopening.h"
#include "transfer/rules.h"

namespace tensorferry {

// All lanes between two peers: opens and proves them, opens the next generation
// of a body lane that has ended, and carries frames and bodies. Belongs to its
// loop.
//
// The accepting side listens on a port of its own until all lanes are up, and
// again while a lane is to be opened anew; whoever connects has to show the key
// before anything of his is looked at.
class Lanes {
 public:
  // What happens, on the loop. None of it within a call of a Lanes method other
  // than Accept and Dial.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnUp() = 0;  // all lanes, once
    virtual void OnFrame(Frame frame, std::string inline_bytes) = 0;
    virtual void OnFrameWritten() = 0;  // that SendFrame was given
    // A body is described on `lane`; see described().
    virtual void OnBody(int lane, uint32_t generation, BodyTag tag) = 0;
    virtual void OnLaneUp(int lane, uint32_t generation) = 0;
    virtual void OnLaneEnded(int lane) = 0;
    // Not to be repaired; the owner has to Close.
    virtual void OnFailed(absl::Status why) = 0;
    virtual void OnClosed() = 0;  // after Close: the transport holds nothing
  };

  struct Options {
    Loop* loop = nullptr;
    const BackendRegistry* backends = nullptr;
    TransferRules rules;
    std::string listen;  // an interface, for the accepting side
    std::string key;
    Owner* owner = nullptr;
  };

  explicit Lanes(Options options);

  // First, on any thread. PrepareToAccept returns the address.
  absl::Status Prepare();
  absl::StatusOr<std::string> PrepareToAccept();

  void Accept();
  void Dial(const std::string& address);

  void SendFrame(const Frame& frame, std::string inline_bytes = "");
  void WriteBody(int lane, tensorpipe::Message message, Lane::Written done);
  // What OnBody was about, until ReadBody.
  const tensorpipe::Descriptor& described(int lane) const;
  void ReadBody(int lane, tensorpipe::Allocation allocation,
                Lane::Written done);
  // Ends a generation of a lane. No effect if it has ended.
  void Reset(int lane, uint32_t generation, absl::Status why);
  void Close(absl::Status why);

  int body_lanes() const { return static_cast<int>(slots_.size()) - 1; }
  // The path between a local and a remote device on `lane`; empty: none.
  std::string PathTo(int lane, const DeviceId& local,
                     const DeviceId& remote) const;
  // Why a path is not used any more, on either side; OK: it is.
  absl::Status GivenUp(const std::string& path) const;
  // Frames that the transport has not taken yet.
  size_t frames_pending() const;

  // To be joined, off the loop; after OnClosed. Empty if joining would hang.
  std::vector<std::shared_ptr<tensorpipe::Context>> TakeContexts();

 private:
  // A connection, be it proved or not.
  struct Connection {
    std::shared_ptr<Lane> lane;
    size_t context = 0;
    int index = -1;  // of its slot; -1: a stranger
    uint32_t generation = 0;
    bool proved = false;
  };

  struct Slot {
    Lane* lane = nullptr;     // proved and not ended
    Lane* dialing = nullptr;  // not yet proved
    uint32_t generation = 0;
    size_t context = 0;
    std::vector<ChannelDescription> peer;
    std::optional<tensorpipe::Descriptor> described;
    absl::Time reopen_by = absl::InfiniteFuture();
    absl::Status ended_with;  // the last connection
  };

  absl::Status AddContext();
  absl::Status Listen();
  void StartListening();
  void StopListening();
  void OnPipe(std::shared_ptr<tensorpipe::Pipe> pipe, size_t context);
  void OnListenerEnded(LaneListener* key, absl::Status why);
  Connection& Open(std::shared_ptr<tensorpipe::Pipe> pipe, size_t context,
                   int index, uint32_t generation);
  void DialLane(int index, uint32_t generation, const std::string& address);
  HelloFrame MakeHello(const Connection& connection) const;
  void OnDescriptor(Lane* key, tensorpipe::Descriptor descriptor);
  void OnBodyDescriptor(Connection& connection,
                        tensorpipe::Descriptor descriptor);
  void OnFirstFrame(Lane* key, absl::StatusOr<Frame> frame);
  absl::Status CheckHello(const HelloFrame& hello) const;
  absl::Status CheckReply(const Connection& connection,
                          const HelloFrame& hello) const;
  void Turn(Connection& connection, absl::Status why);
  void Adopt(Connection& connection, HelloFrame hello);
  void OnLaneFrame(Frame frame, std::string inline_bytes);
  void OnReopen(ReopenFrame reopen);
  void OnEnded(Lane* key, absl::Status why, const std::string& refused);
  void GiveUp(size_t context, const std::string& channel, absl::Status why);
  void Do(const LaneOffers::Actions& actions);
  void Do(const LaneDials::Actions& actions);
  void ArmReopenTimer(Slot& slot);
  void OnReopenTimer();
  void Fail(absl::Status why);
  void MaybeClosed();
  bool AllUp() const;
  std::string NameOf(int index) const;

  const Options options_;
  Loop* const loop_;
  Owner* const owner_;
  bool accepts_ = false;
  bool up_ = false, failed_ = false, closing_ = false, closed_ = false;
  bool broken_ = false;  // tensorpipe threw
  uint64_t frames_sent_ = 0;
  uint64_t frames_taken_ = 0;  // of these, by the socket for certain
  std::vector<Slot> slots_;
  LaneOffers offers_;  // on the accepting side
  LaneDials dials_;    // on the dialing side
  std::map<Lane*, Connection> connections_;
  std::deque<LaneContext> contexts_;  // the last one is for new lanes
  std::shared_ptr<LaneListener> listener_;
  int listeners_ = 0;               // that have not ended
  Loop::TimerId reopen_timer_ = 0;  // 0: none is set
  std::set<std::string> without_;
  std::map<std::string, absl::Status> given_up_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LANES_H_
