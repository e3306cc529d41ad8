#ifndef TENSORFERRY_TRANSFER_LANE_LISTENER_H_
#define TENSORFERRY_TRANSFER_LANE_LISTENER_H_

#include <tensorpipe/core/context.h>
#include <tensorpipe/core/listener.h>
#include <tensorpipe/core/pipe.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/loop.h"

namespace tensorferry {

// Takes the pipes that a session's peer opens: one tensorpipe listener. Belongs
// to its loop, but for what tensorpipe calls on a thread of its own. As with a
// Lane, what tensorpipe calls or throws does not get past here.
class LaneListener : public std::enable_shared_from_this<LaneListener> {
 public:
  struct Callbacks {
    std::function<void(std::shared_ptr<tensorpipe::Pipe>)> on_pipe;
    // Once, as the last: closed, or why it has failed.
    std::function<void(absl::Status why)> on_ended;
  };

  // Any thread. `url`: "TRANSPORT://ADDRESS".
  static absl::StatusOr<std::shared_ptr<LaneListener>> Listen(
      Loop* loop, tensorpipe::Context& context, const std::string& url);

  void Start(Callbacks callbacks);
  void Close();
  void Break(absl::Status why);  // see Lane

  bool broken() const { return broken_; }

 private:
  LaneListener(Loop* loop, std::shared_ptr<tensorpipe::Listener> listener);

  void AcceptNext(std::weak_ptr<tensorpipe::Listener> listener);
  void OnAccept(const tensorpipe::Error& error,
                std::shared_ptr<tensorpipe::Pipe> pipe);
  void End(absl::Status why);

  Loop* const loop_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  Callbacks callbacks_;
  bool closing_ = false, broken_ = false;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LANE_LISTENER_H_
