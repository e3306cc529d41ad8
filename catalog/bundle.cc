#include "catalog/bundle.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "catalog/name_matching.h"

namespace tensorferry {
namespace {

constexpr size_t kMaxBundleName = 200;
constexpr size_t kMaxGlob = 4096;

DeviceId DeviceOf(const at::Tensor& tensor) {
  const c10::Device device = tensor.device();
  return {c10::DeviceTypeName(device.type(), /*lower_case=*/true),
          device.has_index() ? device.index() : 0};
}

TensorInfo Describe(const std::string& name, const at::Tensor& tensor) {
  return {name, c10::toString(tensor.scalar_type()), tensor.sizes().vec(),
          DeviceOf(tensor), ByteSize(tensor)};
}

}  // namespace

BundleInfo Describe(const Bundle& bundle, absl::string_view names_glob) {
  NameMatching unbounded = NameMatching::Unbounded();
  return Describe(bundle, names_glob, unbounded);
}

BundleInfo Describe(const Bundle& bundle, absl::string_view names_glob,
                    NameMatching& matching) {
  BundleInfo info;
  info.name = bundle.name;
  info.version = bundle.version;
  info.metadata = bundle.contents.metadata;
  for (size_t i = 0; i < bundle.contents.names.size(); ++i) {
    if (!matching.Matches(names_glob, bundle.contents.names[i])) continue;
    info.tensors.push_back(
        Describe(bundle.contents.names[i], bundle.contents.tensors[i]));
    info.nbytes += info.tensors.back().nbytes;
  }
  return info;
}

absl::Status CheckGlob(absl::string_view glob) {
  if (glob.size() <= kMaxGlob) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "a glob of ", glob.size(), " bytes, at most ", kMaxGlob, " are allowed"));
}

absl::Status CheckBundleName(absl::string_view name) {
  const auto refuse = [name](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bundle name \"", absl::CHexEscape(name.substr(0, kMaxBundleName)),
        "\" ", why));
  };
  if (name.empty()) return refuse("is empty");
  if (name.size() > kMaxBundleName) {
    return refuse(absl::StrCat("has ", name.size(), " bytes, at most ",
                               kMaxBundleName, " are allowed"));
  }
  if (!IsUtf8(name)) return refuse("is not UTF-8");
  if (name[0] == '.') return refuse("starts with '.'");
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    // U+0080 to U+009F, which terminals obey, too.
    const bool is_c1 = c == '\xc2' && name[i + 1] < '\xa0';
    if (c == '/' || c == '*' || c == '?' || absl::ascii_iscntrl(c) || is_c1) {
      return refuse("has a '/', '*', '?' or control character in it");
    }
  }
  return absl::OkStatus();
}

}  // namespace tensorferry
