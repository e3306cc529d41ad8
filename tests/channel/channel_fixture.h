#ifndef TENSORFERRY_TESTS_CHANNEL_CHANNEL_FIXTURE_H_
#define TENSORFERRY_TESTS_CHANNEL_CHANNEL_FIXTURE_H_

#include <tensorpipe/tensorpipe.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/executor.h"
#include "base/loop.h"
#include "base/unique_fd.h"
#include "channel/local_channel.h"
#include "channel/local_frame.h"
#include "tests/testing/becomes.h"
#include "third_party/tensorpipe/plugin_interface.h"
#include "transport/hub.h"
#include "transport/poll_loop.h"

namespace tensorferry {
namespace testing {

using Connection = tensorpipe::transport::Connection;

// What an operation of tensorpipe came to.
class Outcome {
 public:
  std::function<void(const tensorpipe::Error&)> done();
  // DEADLINE_EXCEEDED after kPatience. Errors of tensorpipe's own, which have
  // no code, are UNAVAILABLE.
  absl::Status Wait();
  bool ended() const { return state_->ended.HasBeenNotified(); }

 private:
  // A callback that comes too late finds it.
  struct State {
    absl::Notification ended;
    absl::Status status;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// Bytes that differ from position to position and from seed to seed.
std::string Pattern(size_t length, int seed);

// Two ends of a connection of tensorpipe's uv.
class UvConnections {
 public:
  UvConnections();
  ~UvConnections();
  std::shared_ptr<Connection> dialed, accepted;

 private:
  std::shared_ptr<tensorpipe::transport::Context> context_;
  std::shared_ptr<tensorpipe::transport::Listener> listener_;
};

// Two ends of a unix socket of a hub's, which carries descriptors.
class UnixConnections {
 public:
  UnixConnections();
  ~UnixConnections();
  std::shared_ptr<Connection> dialed, accepted;

 private:
  std::unique_ptr<PollLoop> loop_ = *PollLoop::Create();
  std::unique_ptr<Hub> hub_;
  std::shared_ptr<tensorpipe::transport::Context> accepting_, dialing_;
  std::shared_ptr<tensorpipe::transport::Listener> listener_;
};

// Of hubs' connections.
DescriptorPassing HubDescriptors();

// A context of the local channel with what it needs and was not given.
class Side {
 public:
  explicit Side(LocalChannelOptions options = {});
  ~Side();

  std::shared_ptr<tensorpipe::channel::Channel> Open(
      std::shared_ptr<Connection> connection);
  std::vector<Carried> carried();
  // Returns once everything that was posted to the loop has run.
  void Flush();

  tensorpipe::channel::Context& context() { return *context_; }
  std::shared_ptr<tensorpipe::channel::Context> shared_context() {
    return context_;
  }

 private:
  LocalChannelOptions Complete(LocalChannelOptions options);

  Loop loop_;
  ThreadPool copier_{1};
  Executor* used_loop_ = nullptr;
  absl::Mutex mu_;
  std::vector<Carried> carried_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<tensorpipe::channel::Context> context_;
};

// `count` buffers went by `strategy`, another one having been passed over for
// `reason` in the member `skipped`; empty: none was.
void ExpectCarried(const std::vector<Carried>& carried, size_t count,
                   const std::string& strategy, absl::Status Carried::*skipped,
                   const std::string& reason);

// Says of every connection that its other end is this process.
std::optional<PeerProcess> ThisProcess(const Connection&);

void Send(tensorpipe::channel::Channel& channel, const std::string& bytes,
          Outcome& outcome);
void Receive(tensorpipe::channel::Channel& channel, std::string& into,
             Outcome& outcome);

// The other end of a local channel, by hand.
class RawPeer {
 public:
  explicit RawPeer(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)) {}
  void Write(const LocalFrame& frame);
  void Write(std::string bytes);
  void WriteWith(int descriptor, const LocalFrame& frame);
  // With the next frame that is read: the descriptor that came.
  std::optional<UniqueFd> TakeDescriptor();
  // DATA_LOSS: no frame. UNAVAILABLE: the connection ended.
  absl::StatusOr<LocalFrame> Read();
  // Waits until the other side has closed.
  bool AwaitEnd();

 private:
  const std::shared_ptr<Connection> connection_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CHANNEL_CHANNEL_FIXTURE_H_
