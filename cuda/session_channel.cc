#include "cuda/session_channel.h"

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/exception_status.h"
#include "channel/channel_error.h"
#include "cuda/checked_connection.h"
#include "third_party/tensorpipe/plugin_interface.h"

namespace tensorferry {
namespace {

using Callback = std::function<void(const tensorpipe::Error&)>;
using Connections =
    std::vector<std::shared_ptr<tensorpipe::transport::Connection>>;
using tensorpipe::Error;

// What the channels of one session have begun and tensorpipe has not ended.
class Operations final : public SharedChannel::User,
                         public std::enable_shared_from_this<Operations> {
 public:
  using Id = uint64_t;

  explicit Operations(SharedChannel::Session session)
      : session_(std::move(session)) {}

  Id Begin(Callback callback) {
    if (session_.on_copy) session_.on_copy(true);
    absl::MutexLock lock(&mu_);
    callbacks_.emplace(next_, std::move(callback));
    return next_++;
  }

  // No effect the second time.
  void End(Id id, const Error& error) {
    absl::MutexLock lock(&mu_);
    auto callback = callbacks_.find(id);
    if (callback != callbacks_.end()) EndLocked(id, callback->second, error);
  }

  void OnLost(const absl::Status& why) override {
    const Error error = LocalChannelError(why);
    absl::MutexLock lock(&mu_);
    for (auto& [id, callback] : callbacks_) EndLocked(id, callback, error);
  }

  // Until all callbacks have run.
  void Join() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](decltype(callbacks_)* callbacks) { return callbacks->empty(); },
        &callbacks_));
  }

 private:
  // Under the lock, which keeps the order; it only posts.
  void EndLocked(Id id, std::optional<Callback>& callback, const Error& error)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (!callback) return;
    session_.loop->Run([self = shared_from_this(), id, error,
                        run =
                            *std::exchange(callback, std::nullopt)]() mutable {
      absl::Status thrown =
          CatchExceptions("tensorpipe, in a callback,", [&] { run(error); });
      run = nullptr;
      const SharedChannel::Session& session = self->session_;
      if (!thrown.ok() && session.on_wedged) {
        session.on_wedged(std::move(thrown));
      }
      if (session.on_copy) session.on_copy(false);
      absl::MutexLock lock(&self->mu_);
      self->callbacks_.erase(id);
    });
  }

  const SharedChannel::Session session_;
  absl::Mutex mu_;
  Id next_ ABSL_GUARDED_BY(mu_) = 0;
  // nullopt: on its way to the loop.
  std::map<Id, std::optional<Callback>> callbacks_ ABSL_GUARDED_BY(mu_);
};

// What a channel and its connections say to each other. Any thread.
class ChannelState {
 public:
  void ReceiveOn(int device) {
    absl::MutexLock lock(&mu_);
    device_ = device;
  }
  int receiving_on() const {
    absl::MutexLock lock(&mu_);
    return device_;
  }

  // Why the channel fails from now on; the first counts.
  void Fail(absl::Status why) {
    absl::MutexLock lock(&mu_);
    if (why_.ok()) why_ = std::move(why);
  }
  // tensorpipe's error as ours, which knows more.
  Error Explain(const Error& error) const {
    absl::MutexLock lock(&mu_);
    return error && !why_.ok() ? LocalChannelError(why_) : error;
  }

 private:
  mutable absl::Mutex mu_;
  int device_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status why_ ABSL_GUARDED_BY(mu_);
};

class SessionChannel final : public tensorpipe::channel::Channel {
 public:
  SessionChannel(SharedChannel* shared, std::shared_ptr<Operations> operations,
                 Connections connections, tensorpipe::channel::Endpoint end)
      : shared_(shared), operations_(std::move(operations)) {
    for (auto& connection : connections) {
      connections_.push_back(MakeChecked(
          std::move(connection), shared_,
          [state = state_] { return state->receiving_on(); },
          [state = state_](absl::Status why) { state->Fail(std::move(why)); }));
    }
    shared_->Enter([&] {
      channel_ = shared_->context().createChannel(connections_, end);
    });
  }
  ~SessionChannel() override {
    close();
    shared_->Enter([&] { channel_ = nullptr; });
  }

  void send(tensorpipe::Buffer buffer, size_t length,
            tensorpipe::channel::TSendCallback callback) override {
    Begin(std::move(callback), [&](Callback ended) {
      channel_->send(buffer, length, std::move(ended));
    });
  }
  void recv(tensorpipe::Buffer buffer, size_t length,
            tensorpipe::channel::TRecvCallback callback) override {
    state_->ReceiveOn(buffer.device().index);
    Begin(std::move(callback), [&](Callback ended) {
      channel_->recv(buffer, length, std::move(ended));
    });
  }
  void setId(std::string) override {}
  void close() override {
    state_->Fail(
        absl::CancelledError(absl::StrCat(shared_->name(), ": closed")));
    shared_->Enter([&] { channel_->close(); });
    if (shared_->lost().ok()) return;  // else nobody closes them
    for (const auto& connection : connections_) connection->close();
  }

 private:
  void Begin(Callback callback, absl::FunctionRef<void(Callback ended)> begin) {
    const Operations::Id id = operations_->Begin(std::move(callback));
    shared_->Enter([&] {
      begin([operations = operations_, state = state_, id](const Error& error) {
        operations->End(id, state->Explain(error));
      });
    });
    const absl::Status lost = shared_->lost();
    if (!lost.ok()) operations_->End(id, LocalChannelError(lost));
  }

  SharedChannel* const shared_;
  const std::shared_ptr<Operations> operations_;
  const std::shared_ptr<ChannelState> state_ = std::make_shared<ChannelState>();
  Connections connections_;
  // Null only if the shared channel is lost.
  std::shared_ptr<tensorpipe::channel::Channel> channel_;
};

class SessionContext final : public tensorpipe::channel::Context {
 public:
  SessionContext(SharedChannel* shared, std::shared_ptr<Operations> operations)
      : shared_(shared), operations_(std::move(operations)) {}
  ~SessionContext() override { join(); }

  bool isViable() const override {
    return shared_->lost().ok() && shared_->context().isViable();
  }
  size_t numConnectionsNeeded() const override {
    return shared_->context().numConnectionsNeeded();
  }
  const std::unordered_map<tensorpipe::Device, std::string>& deviceDescriptors()
      const override {
    return shared_->context().deviceDescriptors();
  }
  bool canCommunicateWithRemote(const std::string& local,
                                const std::string& remote) const override {
    const auto& readable = shared_->checks().readable;
    if (readable && !readable(remote)) return false;
    bool can = false;
    // Not through Enter: this throws before it has changed anything.
    const absl::Status thrown = CatchExceptions(shared_->name(), [&] {
      can = shared_->context().canCommunicateWithRemote(local, remote);
    });
    return thrown.ok() && can;
  }
  std::shared_ptr<tensorpipe::channel::Channel> createChannel(
      Connections connections, tensorpipe::channel::Endpoint end) override {
    auto channel = std::make_shared<SessionChannel>(
        shared_, operations_, std::move(connections), end);
    if (!Keep(channel)) channel->close();
    return channel;
  }
  // Of the shared one, which has its own.
  void setId(std::string) override {}
  void close() override {
    std::vector<std::weak_ptr<SessionChannel>> channels;
    {
      absl::MutexLock lock(&mu_);
      closed_ = true;
      channels.swap(channels_);
    }
    for (const auto& weak : channels) {
      if (const auto channel = weak.lock()) channel->close();
    }
  }
  void join() override {
    close();
    operations_->Join();
  }

 private:
  // Whether the context is open.
  bool Keep(const std::shared_ptr<SessionChannel>& channel) {
    absl::MutexLock lock(&mu_);
    std::erase_if(channels_, [](const auto& weak) { return weak.expired(); });
    channels_.push_back(channel);
    return !closed_;
  }

  SharedChannel* const shared_;
  const std::shared_ptr<Operations> operations_;
  absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::weak_ptr<SessionChannel>> channels_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

std::shared_ptr<tensorpipe::channel::Context> MakeSessionChannel(
    SharedChannel* shared, SharedChannel::Session session) {
  auto operations = std::make_shared<Operations>(std::move(session));
  shared->Add(operations);
  return std::make_shared<SessionContext>(shared, std::move(operations));
}

}  // namespace tensorferry
