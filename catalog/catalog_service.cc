#include "catalog/catalog_service.h"

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/exception_status.h"
#include "base/status_macros.h"
#include "catalog/bundle_proto.h"
#include "catalog/grpc_limits.h"
#include "catalog/name_matching.h"
#include "control/answers.h"
#include "control/authorizer.h"
#include "tensorferry/catalog/catalog.grpc.pb.h"

namespace tensorferry {
namespace {

namespace pb = ::tensorferry::catalog::v1;

std::string GlobOrAll(const std::string& glob) {
  return glob.empty() ? "*" : glob;
}

}  // namespace

class CatalogService::Methods : public pb::Catalog::CallbackService {
 public:
  explicit Methods(const Catalog* catalog) : catalog_(catalog) {}

  grpc::ServerUnaryReactor* ListBundles(
      grpc::CallbackServerContext* context,
      const pb::ListBundlesRequest* request,
      pb::ListBundlesResponse* response) override {
    // gRPC would make UNIMPLEMENTED of what is thrown.
    return answers_.Give(
        CatchExceptions("the catalog",
                        [&] { return List(*context, *request, *response); }),
        *response);
  }

  void SetAccess(std::shared_ptr<const Access> access) {
    access_ = std::move(access);
  }

 private:
  absl::Status List(const grpc::CallbackServerContext& context,
                    const pb::ListBundlesRequest& request,
                    pb::ListBundlesResponse& response) const {
    FERRY_ASSIGN_OR_RETURN(const Caller caller, access_->Admit(context));
    const std::vector<BundleGrant>& granted = caller.grants.list;
    if (granted.empty()) {
      return NotGranted(caller.identity, "list bundles", "list {}");
    }
    FERRY_RETURN_IF_ERROR(CheckGlob(request.bundle()));
    FERRY_RETURN_IF_ERROR(CheckGlob(request.names()));
    size_t nbytes = 0;
    NameMatching matching;
    for (const BundlePtr& bundle : catalog_->List()) {
      const bool matches =
          matching.Matches(GlobOrAll(request.bundle()), bundle->name);
      FERRY_RETURN_IF_ERROR(matching.Check());
      if (!matches) continue;
      if (!PermitsSome(granted, bundle->name, bundle->contents.names)) continue;
      BundleInfo info = Describe(*bundle, GlobOrAll(request.names()), matching);
      FERRY_RETURN_IF_ERROR(matching.Check());
      std::erase_if(info.tensors, [&](const TensorInfo& tensor) {
        if (Permits(granted, bundle->name, tensor.name)) return false;
        info.nbytes -= tensor.nbytes;
        return true;
      });
      pb::Bundle row = ToProto(info);
      nbytes += row.ByteSizeLong() + kListRowOverhead;
      if (nbytes > kMaxListBytes) {
        return absl::ResourceExhaustedError(
            absl::StrCat("the list would have more than ", kMaxListBytes,
                         " bytes: ask for fewer bundles or names"));
      }
      *response.add_bundles() = std::move(row);
    }
    return absl::OkStatus();
  }

  const Catalog* const catalog_;
  Answers answers_{kMaxListBytesNotTaken};
  std::shared_ptr<const Access> access_;  // before the first call
};

CatalogService::CatalogService(const Catalog* catalog)
    : methods_(std::make_unique<Methods>(catalog)) {}

CatalogService::~CatalogService() = default;

void CatalogService::RegisterOn(grpc::ServerBuilder& builder,
                                std::shared_ptr<const Access> access) {
  methods_->SetAccess(std::move(access));
  builder.RegisterService(methods_.get());
}

}  // namespace tensorferry
