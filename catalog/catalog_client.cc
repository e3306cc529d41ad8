#include "catalog/catalog_client.h"

#include <grpcpp/grpcpp.h>

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/exception_status.h"
#include "base/loop.h"
#include "base/status_macros.h"
#include "catalog/grpc_limits.h"
#include "catalog/replies.h"
#include "control/channel.h"
#include "tensorferry/catalog/catalog.grpc.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

// One call of ListBundles, alive until its callback has run.
struct ListCall {
  grpc::ClientContext context;
  pb::ListBundlesRequest request;
  pb::ListBundlesResponse response;
  Done<std::vector<BundleInfo>> done;
};

}  // namespace

class CatalogClient::State {
 public:
  explicit State(PeerChannel channel)
      : channel_(std::move(channel)),
        stub_(pb::Catalog::NewStub(channel_.channel)) {}

  ~State() {
    absl::MutexLock lock(&mu_);
    for (ListCall* call : calls_) call->context.TryCancel();
    mu_.Await(absl::Condition(
        +[](std::set<ListCall*>* calls) { return calls->empty(); }, &calls_));
  }

  void Start(std::unique_ptr<ListCall> call) {
    ListCall* const raw = call.release();
    {
      absl::MutexLock lock(&mu_);
      calls_.insert(raw);
    }
    channel_.Prepare(raw->context);
    // gRPC's threads must not be left with a reference to the channel, which
    // the call's context is: the last channel takes its threads with it, and
    // they cannot await themselves.
    stub_->async()->ListBundles(
        &raw->context, &raw->request, &raw->response,
        [this, raw](const grpc::Status& status) {
          loop_.Post([this, raw, status] { Finish(raw, status); });
        });
  }

 private:
  absl::StatusOr<std::vector<BundleInfo>> ListOf(
      const ListCall& call, const grpc::Status& status) const {
    if (status.ok()) return ReadList(call.response);
    const absl::Status error = channel_.ToStatus(status);
    return absl::Status(
        error.code(), absl::StrCat("list of the bundles at ", channel_.address,
                                   ": ", error.message()));
  }

  void Finish(ListCall* raw, const grpc::Status& status) {
    const std::unique_ptr<ListCall> call(raw);
    auto list = ListOf(*call, status);
    CatchExceptions("a callback", [&] {
      std::move(call->done)(std::move(list));
    }).IgnoreError();
    absl::MutexLock lock(&mu_);
    calls_.erase(raw);
  }

  const PeerChannel channel_;
  const std::unique_ptr<pb::Catalog::Stub> stub_;
  absl::Mutex mu_;
  std::set<ListCall*> calls_ ABSL_GUARDED_BY(mu_);
  Loop loop_;  // the last member: its end is that of the callbacks
};

absl::StatusOr<std::unique_ptr<CatalogClient>> CatalogClient::Create(
    const std::string& address, const ClientSecurity& security) {
  FERRY_ASSIGN_OR_RETURN(
      PeerChannel channel,
      OpenChannel(address, static_cast<int>(kMaxListBytes) + 1024, security));
  return std::unique_ptr<CatalogClient>(
      new CatalogClient(std::make_unique<State>(std::move(channel))));
}

CatalogClient::CatalogClient(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

CatalogClient::~CatalogClient() {
  if (!home_.IsThis()) (void)state_.release();  // the parent's: left alone
}

void CatalogClient::ListBundles(const ListFilter& filter,
                                absl::Duration timeout,
                                Done<std::vector<BundleInfo>> done) {
  if (!home_.IsThis()) return std::move(done)(home_.Check());
  auto call = std::make_unique<ListCall>();
  call->request.set_bundle(filter.bundle);
  call->request.set_names(filter.names);
  call->context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  call->done = std::move(done);
  state_->Start(std::move(call));
}

}  // namespace tensorferry
