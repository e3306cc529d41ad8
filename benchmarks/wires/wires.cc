#include "benchmarks/wires/wires.h"

#include <tensorpipe/tensorpipe.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "base/status_macros.h"
#include "transport/data_address.h"
#include "transport/hub.h"
#include "transport/poll_loop.h"

namespace tensorferry::benchmarks {
namespace {

// As a session has it; both processes are this benchmark's.
SessionKey BenchmarkKey() { return {"benchmark", std::string(16, 'k')}; }

std::shared_ptr<tensorpipe::Context> ContextOver(
    const std::string& name,
    std::shared_ptr<tensorpipe::transport::Context> transport) {
  auto context = std::make_shared<tensorpipe::Context>();
  context->registerTransport(0, name, std::move(transport));
  context->registerChannel(0, "basic", tensorpipe::channel::basic::create());
  return context;
}

// One of tensorpipe's own transports.
class TensorpipeWire : public WireEnd {
 public:
  explicit TensorpipeWire(const std::string& name) {
    context_ =
        ContextOver(name, name == "shm" ? tensorpipe::transport::shm::create()
                                        : tensorpipe::transport::uv::create());
  }
  ~TensorpipeWire() override {
    context_->close();
    context_->join();
  }

  void Listen(const std::string& name) {
    listener_ = context_->listen({name == "shm" ? "shm://" : "uv://127.0.0.1"});
    url_ = listener_->url(name);
  }
  void Dial(const std::string& url) { url_ = url; }
};

// One of ours, with a loop and a hub of its own.
class HubWire : public WireEnd {
 public:
  static absl::StatusOr<std::unique_ptr<HubWire>> Create() {
    auto end = std::make_unique<HubWire>();
    FERRY_ASSIGN_OR_RETURN(
        end->hub_, Hub::Create({.loop = end->loop_.get(),
                                .max_connections_per_session = 1 << 16}));
    return end;
  }
  ~HubWire() override {
    if (context_ == nullptr) return;
    context_->close();
    context_->join();
    listener_ = nullptr;  // before the loop
    context_ = nullptr;
  }

  absl::Status Listen(Wire wire) {
    FERRY_ASSIGN_OR_RETURN(
        Hub::Expected expected,
        hub_->Expect(BenchmarkKey(), {wire}, absl::InfiniteFuture(), {}));
    context_ = ContextOver("ferry", expected.context);
    listener_ = context_->listen({absl::StrCat("ferry://", expected.listen)});
    url_ = absl::StrCat("ferry://", expected.addresses.front());
    return absl::OkStatus();
  }

  absl::Status Dial(const std::string& url) {
    url_ = url;
    FERRY_ASSIGN_OR_RETURN(
        auto transport,
        hub_->Dial(BenchmarkKey(),
                   std::string(absl::StripPrefix(url, "ferry://")), {}));
    context_ = ContextOver("ferry", std::move(transport));
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<PollLoop> loop_ =
      *PollLoop::Create(Clock::Real(), {.longest = PollLoop::kUsualSpin});
  std::unique_ptr<Hub> hub_;
};

bool IsTensorpipes(const std::string& wire) {
  return wire == "uv" || wire == "shm";
}

absl::StatusOr<Wire> WireOf(const std::string& name) {
  for (Wire wire : {Wire::kUnix, Wire::kTcp, Wire::kTls}) {
    if (ToString(wire) == name) return wire;
  }
  return absl::InvalidArgumentError(absl::StrCat("no wire '", name, "'"));
}

}  // namespace

std::vector<std::string> AllWires() {
  return {"uv", "shm", "unix", "tcp", "tls"};
}

absl::StatusOr<std::unique_ptr<WireEnd>> ListenOnWire(const std::string& wire) {
  if (IsTensorpipes(wire)) {
    auto end = std::make_unique<TensorpipeWire>(wire);
    end->Listen(wire);
    return end;
  }
  FERRY_ASSIGN_OR_RETURN(const Wire ours, WireOf(wire));
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<HubWire> end, HubWire::Create());
  FERRY_RETURN_IF_ERROR(end->Listen(ours));
  return end;
}

absl::StatusOr<std::unique_ptr<WireEnd>> DialWire(const std::string& wire,
                                                  const std::string& url) {
  if (IsTensorpipes(wire)) {
    auto end = std::make_unique<TensorpipeWire>(wire);
    end->Dial(url);
    return end;
  }
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<HubWire> end, HubWire::Create());
  FERRY_RETURN_IF_ERROR(end->Dial(url));
  return end;
}

}  // namespace tensorferry::benchmarks
