#include "transfer/endpoint.h"

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/random_bytes.h"
#include "base/status_macros.h"
#include "pool/buffer_pool.h"
#include "pool/pool_budget.h"
#include "serialization/digest_helpers.h"
#include "transfer/link_core.h"
#include "transfer/reaper.h"
#include "transport/data_address.h"
#include "transport/poll_loop.h"

namespace tensorferry {
namespace {

constexpr absl::Duration kExpectFor = absl::Seconds(10);
// How often memory that was not used for a while is looked for.
constexpr absl::Duration kTrimEvery = absl::Seconds(10);

// A lane makes one copy at a time, and a session has four unless told
// otherwise.
int CopyThreads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 2,
                    4);
}

// Null: nothing is kept.
std::shared_ptr<PoolBudget> BudgetOf(const EndpointOptions& options) {
  if (options.buffers != nullptr || options.pool_bytes == 0) return nullptr;
  return options.pool_bytes ? std::make_shared<PoolBudget>(*options.pool_bytes)
                            : PoolBudget::OfProcess();
}

// What users hold of a link: the link goes when this does.
class LinkHandle : public Link {
 public:
  explicit LinkHandle(std::shared_ptr<LinkCore> core)
      : core_(std::move(core)) {}
  ~LinkHandle() override { core_->Close(absl::OkStatus(), nullptr); }

  Operation Send(TensorMessage message, Envelope envelope, SendOptions options,
                 Done<Receipt> done) override {
    return core_->Send(std::move(message), std::move(envelope),
                       std::move(options), std::move(done));
  }
  Operation Receive(ReceiveOptions options, Done<Received> done) override {
    return core_->Receive(std::move(options), std::move(done));
  }
  void Drain(DoneStatus drained) override { core_->Drain(std::move(drained)); }
  void AnnounceEnd(absl::Status why) override {
    core_->AnnounceEnd(std::move(why));
  }
  void Close(absl::Status why, DoneStatus closed) override {
    core_->Close(std::move(why), std::move(closed));
  }
  bool ended() const override { return core_->ended(); }
  LinkCounters counters() const override { return core_->counters(); }

 private:
  const std::shared_ptr<LinkCore> core_;
};

class TensorpipeEndpoint : public Endpoint {
 public:
  explicit TensorpipeEndpoint(EndpointOptions options)
      : options_(std::move(options)), budget_(BudgetOf(options_)) {}

  absl::Status Start() {
    FERRY_ASSIGN_OR_RETURN(
        loop_,
        PollLoop::Create(options_.clock, {.longest = PollLoop::kUsualSpin}));
    HubOptions options = options_.data;
    options.loop = loop_.get();
    FERRY_ASSIGN_OR_RETURN(hub_, Hub::Create(std::move(options)));
    if (budget_ != nullptr) TrimLater();
    return absl::OkStatus();
  }

  ~TensorpipeEndpoint() override {
    {
      absl::MutexLock lock(&mu_);
      stopping_ = true;
    }
    for (const auto& link : Links()) {
      link->Close(absl::CancelledError("the endpoint was closed"), nullptr);
    }
    auto none = [this] { return links_.empty(); };
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&none));
  }

  absl::StatusOr<Expected> Expect(TransferRules rules, DoneStatus on_up,
                                  DoneStatus on_down) override {
    std::string key(SessionKey::kKeyBytes, '\0');
    FERRY_RETURN_IF_ERROR(RandomBytes(key.data(), key.size()));
    auto link =
        MakeLink(std::move(rules), key, std::move(on_up), std::move(on_down));
    // Most often the link's own time limit comes first, and says more.
    FERRY_ASSIGN_OR_RETURN(
        std::vector<std::string> addresses,
        link->Expect(loop_->clock()->Now() + kExpectFor + absl::Seconds(1)));
    FERRY_RETURN_IF_ERROR(Keep(link));
    link->Accept(kExpectFor);
    return Expected{std::move(addresses), std::move(key),
                    std::make_shared<LinkHandle>(std::move(link))};
  }

  void Dial(std::vector<std::string> addresses, const std::string& key,
            TransferRules rules, absl::Duration timeout, DoneStatus on_down,
            Done<std::shared_ptr<Link>> done) override {
    // The handle is made when the link is up; dropping it would close it.
    struct Dialing {
      Done<std::shared_ptr<Link>> done;
      std::shared_ptr<LinkCore> link;
    };
    auto dialing = std::make_shared<Dialing>();
    dialing->done = std::move(done);
    auto on_up = [dialing](absl::Status status) {
      std::shared_ptr<LinkCore> link = std::move(dialing->link);
      Done<std::shared_ptr<Link>> done = std::move(dialing->done);
      if (!status.ok()) return std::move(done)(std::move(status));
      std::move(done)(std::make_shared<LinkHandle>(std::move(link)));
    };
    auto link = MakeLink(std::move(rules), key, on_up, std::move(on_down));
    dialing->link = link;
    absl::Status status = Keep(link);
    if (status.ok()) return link->Dial(std::move(addresses), timeout);
    options_.executor->Run([on_up, status]() mutable { on_up(status); });
  }

 private:
  std::shared_ptr<LinkCore> MakeLink(TransferRules rules, std::string key,
                                     DoneStatus on_up, DoneStatus on_down) {
    LinkCore::Options options;
    options.loop = loop_.get();
    options.hub = hub_.get();
    options.copier = &copier_;
    options.digest_helpers = &digest_helpers_;
    options.executor = options_.executor;
    options.backends = options_.backends == nullptr ? &BackendRegistry::Global()
                                                    : options_.backends;
    options.converters = options_.converters;
    options.buffers = options_.buffers;
    if (budget_ != nullptr) {
      options.pool =
          BufferPool::Create({.budget = budget_, .clock = options_.clock});
    }
    options.key = std::move(key);
    options.greet_within = options_.data.handshake_timeout;
    options.rules = std::move(rules);
    options.on_up = std::move(on_up);
    options.on_down = std::move(on_down);
    options.on_gone =
        [this](LinkCore* link,
               std::vector<std::shared_ptr<tensorpipe::Context>> contexts) {
          for (auto& context : contexts) reaper_.Reap(std::move(context));
          Forget(link);
        };
    return std::make_shared<LinkCore>(std::move(options));
  }

  void TrimLater() {
    loop_->RunAt(options_.clock->Now() + kTrimEvery, [this] {
      for (const auto& link : Links()) link->Trim();
      TrimLater();
    });
  }

  std::vector<std::shared_ptr<LinkCore>> Links() {
    std::vector<std::shared_ptr<LinkCore>> links;
    absl::MutexLock lock(&mu_);
    for (const auto& [key, link] : links_) links.push_back(link);
    return links;
  }

  absl::Status Keep(const std::shared_ptr<LinkCore>& link) {
    absl::MutexLock lock(&mu_);
    if (stopping_) {
      return absl::FailedPreconditionError(
          absl::StrCat("endpoint ", options_.name, " is being closed"));
    }
    links_[link.get()] = link;
    return absl::OkStatus();
  }

  void Forget(LinkCore* link) {
    std::shared_ptr<LinkCore> last;  // goes after the lock
    absl::MutexLock lock(&mu_);
    auto found = links_.find(link);
    last = std::move(found->second);
    links_.erase(found);
  }

  const EndpointOptions options_;
  const std::shared_ptr<PoolBudget> budget_;  // null: nothing is kept
  absl::Mutex mu_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<LinkCore*, std::shared_ptr<LinkCore>> links_ ABSL_GUARDED_BY(mu_);
  // In this order: the reaper ends first, while what its contexts need to be
  // joined is still there.
  std::unique_ptr<PollLoop> loop_;
  const int copy_threads_ = CopyThreads();
  ThreadPool copier_{copy_threads_, ThreadPool::Processors::kApart};
  DigestHelpers digest_helpers_{&copier_, copy_threads_};
  std::unique_ptr<Hub> hub_;
  Reaper reaper_;
};

}  // namespace

bool OnLoopback(const HubOptions& data) {
  return data.host.empty() ||
         IsLoopback(DataAddress{.wire = Wire::kTcp, .host = data.host});
}

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Create(
    EndpointOptions options) {
  if (options.executor == nullptr) {
    return absl::InvalidArgumentError("EndpointOptions.executor is not set");
  }
  auto endpoint = std::make_unique<TensorpipeEndpoint>(std::move(options));
  FERRY_RETURN_IF_ERROR(endpoint->Start());
  return endpoint;
}

}  // namespace tensorferry
