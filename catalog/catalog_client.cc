#include "catalog/catalog_client.h"

#include <grpcpp/grpcpp.h>

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status_macros.h"
#include "catalog/bundle_proto.h"
#include "catalog/catalog.grpc.pb.h"
#include "catalog/grpc_limits.h"
#include "control/address.h"
#include "control/grpc_status.h"

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

absl::StatusOr<std::vector<BundleInfo>> ReadResponse(
    const pb::ListBundlesResponse& response) {
  std::vector<BundleInfo> bundles;
  for (const pb::Bundle& row : response.bundles()) {
    FERRY_ASSIGN_OR_RETURN(BundleInfo info, FromProto(row));
    bundles.push_back(std::move(info));
  }
  return bundles;
}

}  // namespace

class CatalogClient::Impl {
 public:
  explicit Impl(const std::string& address) : address_(address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxListBytes + 1024);
    stub_ = pb::Catalog::NewStub(grpc::CreateCustomChannel(
        address, grpc::InsecureChannelCredentials(), arguments));
  }

  ~Impl() {
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
    stub_->async()->ListBundles(
        &raw->context, &raw->request, &raw->response,
        [this, raw](grpc::Status status) { Finish(raw, status); });
  }

 private:
  void Finish(ListCall* raw, const grpc::Status& status) {
    const std::unique_ptr<ListCall> call(raw);
    if (status.ok()) {
      std::move(call->done)(ReadResponse(call->response));
    } else {
      const absl::Status error = FromGrpcStatus(status);
      std::move(call->done)(absl::Status(
          error.code(), absl::StrCat("list of the bundles at ", address_, ": ",
                                     error.message())));
    }
    absl::MutexLock lock(&mu_);
    calls_.erase(raw);
  }

  const std::string address_;
  std::unique_ptr<pb::Catalog::Stub> stub_;
  absl::Mutex mu_;
  std::set<ListCall*> calls_ ABSL_GUARDED_BY(mu_);
};

absl::StatusOr<std::unique_ptr<CatalogClient>> CatalogClient::Create(
    const std::string& address) {
  FERRY_RETURN_IF_ERROR(ValidateControlAddress(address));
  return std::unique_ptr<CatalogClient>(
      new CatalogClient(std::make_unique<Impl>(address)));
}

CatalogClient::CatalogClient(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

CatalogClient::~CatalogClient() = default;

void CatalogClient::ListBundles(const ListFilter& filter,
                                absl::Duration timeout,
                                Done<std::vector<BundleInfo>> done) {
  auto call = std::make_unique<ListCall>();
  call->request.set_bundle(filter.bundle);
  call->request.set_names(filter.names);
  call->context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  call->done = std::move(done);
  impl_->Start(std::move(call));
}

}  // namespace tensorferry
