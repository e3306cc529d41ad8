#include "catalog/bundle_proto.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace tensorferry {
namespace {

absl::StatusOr<TensorInfo> FromProto(const catalog::v1::Tensor& proto) {
  TensorInfo info;
  info.name = proto.name();
  info.dtype = proto.dtype();
  for (int64_t size : proto.shape()) {
    if (size < 0) {
      return absl::InvalidArgumentError(absl::StrCat("a size of ", size));
    }
    info.shape.push_back(size);
  }
  FERRY_ASSIGN_OR_RETURN(info.device, ParseDeviceId(proto.device()));
  info.nbytes = proto.nbytes();
  return info;
}

}  // namespace

catalog::v1::Bundle ToProto(const BundleInfo& info) {
  catalog::v1::Bundle proto;
  proto.set_name(info.name);
  proto.set_version(info.version);
  proto.set_nbytes(info.nbytes);
  proto.mutable_metadata()->insert(info.metadata.begin(), info.metadata.end());
  for (const TensorInfo& tensor : info.tensors) {
    catalog::v1::Tensor* row = proto.add_tensors();
    row->set_name(tensor.name);
    row->set_dtype(tensor.dtype);
    row->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
    row->set_device(ToString(tensor.device));
    row->set_nbytes(tensor.nbytes);
  }
  return proto;
}

absl::StatusOr<BundleInfo> FromProto(const catalog::v1::Bundle& proto) {
  BundleInfo info;
  FERRY_RETURN_IF_ERROR(CheckBundleName(proto.name()));
  info.name = proto.name();
  info.version = proto.version();
  info.nbytes = proto.nbytes();
  info.metadata = {proto.metadata().begin(), proto.metadata().end()};
  for (const catalog::v1::Tensor& row : proto.tensors()) {
    absl::StatusOr<TensorInfo> tensor = FromProto(row);
    if (!tensor.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("bundle \"", info.name, "\", tensor \"",
                       absl::Utf8SafeCEscape(row.name()),
                       "\": ", tensor.status().message()));
    }
    info.tensors.push_back(*std::move(tensor));
  }
  return info;
}

}  // namespace tensorferry
