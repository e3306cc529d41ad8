#include "transfer/lane_listener.h"

#include <utility>

#include "transfer/tensorpipe_status.h"

namespace tensorferry {

absl::StatusOr<std::shared_ptr<LaneListener>> LaneListener::Listen(
    Loop* loop, tensorpipe::Context& context, const std::string& url) {
  try {
    return std::shared_ptr<LaneListener>(
        new LaneListener(loop, context.listen({url})));
  } catch (...) {
    return CurrentExceptionStatus("listening for lanes");
  }
}

LaneListener::LaneListener(Loop* loop,
                           std::shared_ptr<tensorpipe::Listener> listener)
    : loop_(loop), listener_(std::move(listener)) {}

void LaneListener::Start(Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  AcceptNext(listener_);
}

// On any thread, so that it touches nothing of the loop's. One accept is always
// pending: the answer to close() is what the end waits for. It follows at once,
// not in a later turn, because tensorpipe's listener and a pipe that comes
// while none is pending hold each other for ever.
void LaneListener::AcceptNext(std::weak_ptr<tensorpipe::Listener> listener) {
  const std::shared_ptr<tensorpipe::Listener> open = listener.lock();
  if (open == nullptr) return;
  try {
    open->accept([self = shared_from_this(), listener](
                     const tensorpipe::Error& error,
                     std::shared_ptr<tensorpipe::Pipe> pipe) {
      self->loop_->Post([self, error, pipe = std::move(pipe)]() mutable {
        self->OnAccept(error, std::move(pipe));
      });
      if (!error) self->AcceptNext(listener);
    });
  } catch (...) {
    loop_->Post([self = shared_from_this(),
                 why = CurrentExceptionStatus("accepting lanes")]() mutable {
      self->Break(std::move(why));
    });
  }
}

void LaneListener::OnAccept(const tensorpipe::Error& error,
                            std::shared_ptr<tensorpipe::Pipe> pipe) {
  if (broken_) return;
  if (error) {
    return End(closing_ ? absl::CancelledError("closed")
                        : ToStatus(error, "accepting lanes"));
  }
  if (!closing_) callbacks_.on_pipe(std::move(pipe));
}

void LaneListener::Close() {
  if (closing_ || broken_ || listener_ == nullptr) return;
  closing_ = true;
  try {
    listener_->close();
  } catch (...) {
    Break(CurrentExceptionStatus("accepting lanes"));
  }
}

void LaneListener::Break(absl::Status why) {
  if (broken_) return;
  broken_ = true;
  loop_->Post([self = shared_from_this(), why = std::move(why)]() mutable {
    self->End(std::move(why));
  });
}

void LaneListener::End(absl::Status why) {
  if (listener_ == nullptr) return;
  listener_ = nullptr;
  Callbacks callbacks = std::move(callbacks_);
  if (callbacks.on_ended) callbacks.on_ended(std::move(why));
}

}  // namespace tensorferry
