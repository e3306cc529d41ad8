#include "catalog/catalog_service.h"

#include <grpcpp/grpcpp.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "catalog/bundle_proto.h"
#include "catalog/catalog.grpc.pb.h"
#include "catalog/grpc_limits.h"
#include "control/grpc_status.h"

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
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(List(*request, *response)));
    return reactor;
  }

 private:
  absl::Status List(const pb::ListBundlesRequest& request,
                    pb::ListBundlesResponse& response) const {
    size_t nbytes = 0;
    for (const BundlePtr& bundle :
         catalog_->List(GlobOrAll(request.bundle()))) {
      pb::Bundle row = ToProto(Describe(*bundle, GlobOrAll(request.names())));
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
};

CatalogService::CatalogService(const Catalog* catalog)
    : methods_(std::make_unique<Methods>(catalog)) {}

CatalogService::~CatalogService() = default;

void CatalogService::RegisterOn(grpc::ServerBuilder& builder) {
  builder.RegisterService(methods_.get());
}

}  // namespace tensorferry
