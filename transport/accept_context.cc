#include "transport/accept_context.h"

#include <deque>
#include <utility>

#include "base/exception_status.h"
#include "transport/call_queue.h"
#include "transport/hub_error.h"

namespace tensorferry {

// Pairs connections that came with calls of accept. On the loop but for the
// first group of methods.
class SessionListener : public std::enable_shared_from_this<SessionListener> {
 public:
  using Accept = tensorpipe::transport::Listener::accept_callback_fn;
  using OnThrown = std::function<void(absl::Status)>;

  explicit SessionListener(PollLoop* loop) : calls_(loop) {}

  // From any thread.
  void AcceptNext(Accept accept) {
    calls_.Run(shared_from_this(),
               [this, accept = std::move(accept)]() mutable {
                 accepts_.push_back(std::move(accept));
                 Match();
               });
  }
  void Close(absl::Status why) {
    calls_.Run(shared_from_this(), [this, why = std::move(why)] { End(why); });
  }

  void SetOnThrown(OnThrown on_thrown) { on_thrown_ = std::move(on_thrown); }
  void Add(std::shared_ptr<Connection> connection) {
    if (!status_.ok()) return connection->Close();
    ready_.push_back(std::move(connection));
    Match();
  }

 private:
  void End(const absl::Status& why) {
    if (!status_.ok()) return;
    status_ = why;
    for (auto& connection : std::exchange(ready_, {})) connection->Close();
    Match();
  }

  void Match() {
    if (matching_) return;
    auto self = shared_from_this();
    matching_ = true;
    while (!accepts_.empty() && (!ready_.empty() || !status_.ok())) {
      Accept accept = std::move(accepts_.front());
      accepts_.pop_front();
      std::shared_ptr<Connection> connection;
      if (status_.ok()) {
        connection = std::move(ready_.front());
        ready_.pop_front();
      }
      CallBack(std::move(accept), std::move(connection));
    }
    matching_ = false;
  }

  void CallBack(Accept accept, std::shared_ptr<Connection> connection) {
    absl::Status thrown = CatchExceptions("tensorpipe, as it accepted,", [&] {
      if (connection == nullptr) {
        accept(ToTensorpipeError(status_), nullptr);
      } else {
        accept(tensorpipe::Error::kSuccess, MakeHandle(std::move(connection)));
      }
    });
    if (!thrown.ok() && on_thrown_ != nullptr) on_thrown_(std::move(thrown));
  }

  CallQueue calls_;
  OnThrown on_thrown_;
  absl::Status status_;  // not OK once it has ended
  std::deque<Accept> accepts_;
  std::deque<std::shared_ptr<Connection>> ready_;
  bool matching_ = false;
};

namespace {

class Handle final : public tensorpipe::transport::Listener {
 public:
  explicit Handle(std::shared_ptr<SessionListener> listener)
      : listener_(std::move(listener)) {}
  ~Handle() override { close(); }

  void accept(accept_callback_fn fn) override {
    listener_->AcceptNext(std::move(fn));
  }
  std::string addr() const override { return AcceptContext::kListen; }
  void setId(std::string) override {}
  void close() override {
    listener_->Close(absl::CancelledError("listener closed"));
  }

 private:
  const std::shared_ptr<SessionListener> listener_;
};

}  // namespace

AcceptContext::AcceptContext(std::shared_ptr<HubState> hub, SessionKey session,
                             ContextEvents events,
                             std::function<void()> on_close)
    : SessionContext(std::move(hub), std::move(session), std::move(events)),
      on_close_(std::move(on_close)),
      listener_(std::make_shared<SessionListener>(loop())) {}

std::shared_ptr<tensorpipe::transport::Connection> AcceptContext::connect(
    std::string) {
  std::shared_ptr<Connection> connection = NewConnection(/*accepted=*/true);
  connection->Close();
  return MakeHandle(std::move(connection));
}

std::shared_ptr<tensorpipe::transport::Listener> AcceptContext::listen(
    std::string) {
  return std::make_shared<Handle>(listener_);
}

void AcceptContext::Deliver(std::unique_ptr<ByteStream> stream,
                            std::vector<uint8_t> first_frame,
                            std::optional<PeerProcess> peer) {
  listener_->SetOnThrown([weak = weak_from_this()](absl::Status why) {
    if (auto self = weak.lock()) self->OnThrown(std::move(why));
  });
  std::shared_ptr<Connection> connection = NewConnection(/*accepted=*/true);
  connection->Open({.stream = std::move(stream),
                    .peer = peer,
                    .read_ahead = std::move(first_frame)});
  if (!connection->failed()) listener_->Add(std::move(connection));
}

void AcceptContext::EndListening(absl::Status why) {
  listener_->Close(std::move(why));
}

void AcceptContext::OnClose() {
  on_close_();
  listener_->Close(absl::CancelledError("context closed"));
}

}  // namespace tensorferry
