#ifndef TENSORFERRY_CATALOG_CATALOG_SERVICE_H_
#define TENSORFERRY_CATALOG_CATALOG_SERVICE_H_

#include <memory>

#include "catalog/catalog.h"
#include "control/access.h"

namespace grpc {
class ServerBuilder;
}  // namespace grpc

namespace tensorferry {

// The gRPC face of a catalog: tensorferry.catalog.v1.Catalog. It lists; tensors
// are pulled through sessions (catalog/serve.h).
//
// `catalog` must outlive the service, the service the server.
class CatalogService {
 public:
  explicit CatalogService(const Catalog* catalog);
  ~CatalogService();

  // Before the server is built. `access` says who may list what; it is not
  // null.
  void RegisterOn(grpc::ServerBuilder& builder,
                  std::shared_ptr<const Access> access);

 private:
  class Methods;
  std::unique_ptr<Methods> methods_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_CATALOG_SERVICE_H_
