// What a peer answers to a list, a pull and a push, as the one who asked takes
// it. The first byte says to which; a pull's second one how many tensors came
// with it.
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "catalog/bundle.h"
#include "catalog/named_tensors.h"
#include "catalog/replies.h"
#include "serialization/message.h"
#include "tensorferry/catalog/catalog.pb.h"

namespace tensorferry {
namespace {

void Check(bool claim) {
  if (!claim) std::abort();
}

// Refusals can be shown.
bool Taken(const absl::Status& status) {
  if (status.ok()) return true;
  Check(absl::IsInvalidArgument(status) ||
        absl::IsResourceExhausted(status));  // groups of fields
  for (char c : status.message()) Check(c != '\x1b');
  return false;
}

void List(const std::string& bytes) {
  catalog::v1::ListBundlesResponse response;
  if (!response.ParseFromString(bytes)) return;  // gRPC's affair
  const auto bundles = ReadList(response);
  if (!Taken(bundles.status())) return;
  Check(bundles->size() == static_cast<size_t>(response.bundles_size()));
  for (const BundleInfo& bundle : *bundles) {
    Check(CheckBundleName(bundle.name).ok());
    for (const TensorInfo& tensor : bundle.tensors) {
      for (int64_t size : tensor.shape) Check(size >= 0);
    }
  }
}

TensorMessage MessageOf(size_t tensors) {
  static const at::Tensor tensor = at::zeros({1});
  TensorMessage message;
  message.tensors.assign(tensors, tensor);
  for (size_t i = 0; i < tensors; ++i) {
    message.names.push_back(absl::StrCat("t", i));
  }
  return message;
}

void Pull(size_t tensors, const std::string& bytes) {
  const auto reply = ParsePullReply(bytes);
  if (!Taken(reply.status())) return;
  for (const char* bundle : {"", "model"}) {
    for (const char* names : {"*", "t?"}) {
      const auto pulled = ReadPulled(*reply, MessageOf(tensors), bundle, names);
      if (!Taken(pulled.status())) continue;
      Check(CheckNamed(*pulled).ok() && pulled->tensors.size() == tensors);
      for (const auto& one : reply->bundles()) {
        Check(CheckBundleName(one.name()).ok());
        Check(*bundle == '\0' || one.name() == bundle);
      }
    }
  }
}

void Push(const std::string& bytes) {
  const auto reply = ParsePushReply(bytes);
  if (Taken(reply.status())) Check(reply->version() != 0);
}

}  // namespace
}  // namespace tensorferry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  switch (data[0] % 3) {
    case 0:
      tensorferry::List(rest);
      break;
    case 1:
      tensorferry::Pull(data[1] % 16, rest);
      break;
    default:
      tensorferry::Push(rest);
  }
  return 0;
}
