// As libtorch was built; its header is empty otherwise.
#define USE_TENSORPIPE
#include <torch/csrc/distributed/rpc/message.h>
#include <torch/csrc/distributed/rpc/request_callback.h>
#include <torch/csrc/distributed/rpc/tensorpipe_agent.h>
#include <torch/custom_class.h>

#include <optional>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "benchmarks/neighbours/neighbour.h"

namespace tensorferry::benchmarks {
namespace {

namespace rpc = torch::distributed::rpc;

using rpc::JitFuture;
using rpc::Message;

constexpr float kTimeoutSeconds = 60;
constexpr int kThreads = 16;  // as torch.distributed.rpc sets it

// The tensors of the one message that is under way.
struct Inbox {
  absl::Mutex mu;
  std::optional<std::vector<at::Tensor>> tensors ABSL_GUARDED_BY(mu);

  std::vector<at::Tensor> Take() {
    absl::MutexLock lock(&mu);
    mu.Await(absl::Condition(
        +[](Inbox* self) { return self->tensors.has_value(); }, this));
    return *std::exchange(tensors, std::nullopt);
  }
};

// Keeps the tensors of a request and answers with nothing.
class KeepTensors : public rpc::RequestCallback {
 public:
  explicit KeepTensors(Inbox* inbox) : inbox_(inbox) {}

 private:
  c10::intrusive_ptr<JitFuture> processMessage(
      Message& request, std::vector<c10::Stream>) const override {
    {
      absl::MutexLock lock(&inbox_->mu);
      inbox_->tensors = std::move(request.tensors());
    }
    auto future = c10::make_intrusive<JitFuture>(
        at::getCustomClassType<c10::intrusive_ptr<Message>>());
    future->markCompleted(c10::make_intrusive<Message>(
        std::vector<char>(), std::vector<at::Tensor>(),
        rpc::MessageType::SCRIPT_RET, request.id()));
    return future;
  }

  Inbox* const inbox_;
};

std::shared_ptr<rpc::TensorPipeAgent> MakeAgent(
    c10::intrusive_ptr<c10d::Store> store, std::string name, int rank,
    Inbox* inbox) {
  auto agent = std::make_shared<rpc::TensorPipeAgent>(
      store, std::move(name), rank, /*worldSize=*/2,
      rpc::TensorPipeRpcBackendOptions(kThreads, std::nullopt, std::nullopt,
                                       kTimeoutSeconds, ""),
      std::unordered_map<std::string, rpc::DeviceMap>(),
      std::vector<c10::Device>(), std::make_unique<KeepTensors>(inbox));
  agent->start();
  return agent;
}

c10::intrusive_ptr<c10d::TCPStore> MakeStore(int port, bool server) {
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = server;
  options.waitWorkers = false;
  return c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
}

// libtorch throws.
template <class Call>
auto Try(Call call) -> absl::StatusOr<decltype(call())> {
  try {
    return call();
  } catch (const std::exception& e) {
    return absl::UnavailableError(e.what());
  }
}

class RpcSender : public Sender {
 public:
  explicit RpcSender(c10::intrusive_ptr<c10d::Store> store)
      : agent_(MakeAgent(std::move(store), "sender", 1, &inbox_)) {}

  absl::Status Send(const Contents& contents) override {
    return Try([&] {
             agent_
                 ->send(agent_->getWorkerInfo("receiver"),
                        c10::make_intrusive<Message>(
                            std::vector<char>(),
                            std::vector<at::Tensor>(contents.tensors),
                            rpc::MessageType::SCRIPT_CALL))
                 ->waitAndThrow();
             return true;
           })
        .status();
  }

 private:
  Inbox inbox_;  // nobody sends to this side
  const std::shared_ptr<rpc::TensorPipeAgent> agent_;
};

class RpcReceiver : public Receiver {
 public:
  explicit RpcReceiver(Inbox* inbox) : inbox_(inbox) {}
  void Arm(const Contents&, bool) override {}
  absl::StatusOr<std::vector<at::Tensor>> Take() override {
    return inbox_->Take();
  }

 private:
  Inbox* const inbox_;
};

class RpcAcceptor : public Acceptor {
 public:
  RpcAcceptor()
      : store_(MakeStore(0, true)), address_(absl::StrCat(store_->getPort())) {}

  const std::string& address() const override { return address_; }

  // The agents of both sides wait for each other.
  absl::StatusOr<std::unique_ptr<Receiver>> Accept() override {
    return Try([this]() -> std::unique_ptr<Receiver> {
      agent_ = MakeAgent(store_, "receiver", 0, &inbox_);
      return std::make_unique<RpcReceiver>(&inbox_);
    });
  }

 private:
  Inbox inbox_;
  const c10::intrusive_ptr<c10d::TCPStore> store_;
  const std::string address_;
  std::shared_ptr<rpc::TensorPipeAgent> agent_;
};

}  // namespace

Neighbour RpcNeighbour() {
  return {.listen =
              [] {
                return Try([]() -> std::unique_ptr<Acceptor> {
                  return std::make_unique<RpcAcceptor>();
                });
              },
          .connect =
              [](const std::string& address) {
                return Try([&]() -> std::unique_ptr<Sender> {
                  int port = 0;
                  if (!absl::SimpleAtoi(address, &port)) port = 0;
                  return std::make_unique<RpcSender>(MakeStore(port, false));
                });
              }};
}

}  // namespace tensorferry::benchmarks
