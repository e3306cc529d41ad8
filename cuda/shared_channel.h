#ifndef TENSORFERRY_CUDA_SHARED_CHANNEL_H_
#define TENSORFERRY_CUDA_SHARED_CHANNEL_H_

#include <tensorpipe/channel/context.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "base/executor.h"
#include "third_party/tensorpipe/plugin_interface.h"

namespace tensorferry {

// What is asked of a peer before one of tensorpipe's channels hears it.
struct ChannelChecks {
  // Whether a peer's device descriptor may be compared; null: any may.
  std::function<bool(const std::string& descriptor)> readable;

  // Looks at each packet that comes in on one connection. `device`: the index
  // of the device that the channel was last told to receive on. Not OK: the
  // connection fails, and with it the channel.
  using Packets = std::function<absl::Status(
      const tensorpipe::transport::Connection& connection, int device,
      absl::string_view packet)>;
  // For each connection anew; null: packets are taken as they are.
  std::function<Packets()> packets;
};

// One of tensorpipe's channel contexts that all sessions of the process use,
// since it has staging memory or a thread. It is never closed, and destroyed by
// tests only (CloseCudaChannelsForTesting).
//
// tensorpipe throws at each error of CUDA's. If that goes through its context,
// the context runs nothing any more: it is lost, all that its channels had
// begun fails, and a new one has to be made. Any thread.
class SharedChannel {
 public:
  SharedChannel(std::string name,
                std::shared_ptr<tensorpipe::channel::Context> context,
                ChannelChecks checks);

  // What it is made for; see ChannelEnvironment.
  struct Session {
    Executor* loop = nullptr;
    std::function<void(bool begun)> on_copy;
    std::function<void(absl::Status)> on_wedged;
  };

  // The context of one session. Closing it closes the channels that were made
  // through it and no others; join() waits for the callbacks of these only, and
  // must not be called on `loop`. Callbacks run on `loop`, one at a time, in
  // the order in which tensorpipe calls them; what one throws goes to
  // `on_wedged`. Every operation counts as a copy, from its begin, which is on
  // `loop`, to its callback. Its channels fail with a status (see
  // LocalChannelErrorStatus): CANCELLED, closed on this side; UNAVAILABLE,
  // lost. `loop` must outlive it.
  std::shared_ptr<tensorpipe::channel::Context> MakeSession(Session session);

  const std::string& name() const { return name_; }
  const ChannelChecks& checks() const { return checks_; }
  tensorpipe::channel::Context& context() const { return *context_; }
  // Why it is lost; OK: it is not.
  absl::Status lost() const;

  // Runs what calls tensorpipe, or what tensorpipe gave as a callback, unless
  // the context is lost.
  void Enter(absl::FunctionRef<void()> code);

  // A session, as far as this is concerned.
  class User {
   public:
    virtual ~User() = default;
    virtual void OnLost(const absl::Status& why) = 0;
  };
  // If it is lost already, OnLost is not called.
  void Add(std::weak_ptr<User> user);

 private:
  void Lose(const absl::Status& thrown);

  const std::string name_;
  const std::shared_ptr<tensorpipe::channel::Context> context_;
  const ChannelChecks checks_;
  mutable absl::Mutex mu_;
  absl::Status lost_ ABSL_GUARDED_BY(mu_);
  std::vector<std::weak_ptr<User>> users_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CUDA_SHARED_CHANNEL_H_
