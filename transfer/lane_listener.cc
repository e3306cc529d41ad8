#include "transfer/lane_listener.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "transfer/tensorpipe_status.h"

namespace tensorferry {

absl::StatusOr<std::shared_ptr<LaneListener>> LaneListener::Listen(
    Loop* loop, tensorpipe::Context& context, absl::string_view transport,
    absl::string_view host) {
  try {
    auto listener =
        context.listen({absl::StrCat(transport, "://", host, ":0")});
    std::string address = listener->url(std::string(transport));
    return std::shared_ptr<LaneListener>(
        new LaneListener(loop, std::move(listener), std::move(address)));
  } catch (...) {
    return CurrentExceptionStatus(absl::StrCat("listening on ", host));
  }
}

LaneListener::LaneListener(Loop* loop,
                           std::shared_ptr<tensorpipe::Listener> listener,
                           std::string address)
    : loop_(loop),
      listener_(std::move(listener)),
      address_(std::move(address)) {}

void LaneListener::Start(Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  AcceptNext();
}

// One accept is always pending: its answer, at the latest the one to close(),
// is what the end waits for.
void LaneListener::AcceptNext() {
  try {
    listener_->accept(
        [self = shared_from_this()](const tensorpipe::Error& error,
                                    std::shared_ptr<tensorpipe::Pipe> pipe) {
          self->loop_->Post([self, error, pipe = std::move(pipe)]() mutable {
            self->OnAccept(error, std::move(pipe));
          });
        });
  } catch (...) {
    BreakSoon();
  }
}

// A connection that fails early ends tensorpipe's listener for good.
void LaneListener::OnAccept(const tensorpipe::Error& error,
                            std::shared_ptr<tensorpipe::Pipe> pipe) {
  if (broken_) return;
  if (closing_) return End(absl::CancelledError("closed"));
  if (error) return End(ToStatus(error, "accepting lanes"));
  AcceptNext();
  callbacks_.on_pipe(std::move(pipe));
}

void LaneListener::Close() {
  if (closing_ || listener_ == nullptr) return;
  closing_ = true;
  try {
    listener_->close();
  } catch (...) {
    BreakSoon();
  }
}

void LaneListener::BreakSoon() {
  broken_ = true;
  loop_->Post([self = shared_from_this(),
               why = CurrentExceptionStatus("accepting lanes")]() mutable {
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
