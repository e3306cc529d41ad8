#include "serialization/converter_registry.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace tensorferry {
namespace {

std::string NameOf(c10::DeviceType type) {
  return c10::DeviceTypeName(type, /*lower_case=*/true);
}

// What a converter lacks of DeviceInfo::not_through_host.
std::string WhyNotThroughHost(const DeviceConverter& converter,
                              c10::Device device) {
  const c10::Stream stream(c10::Stream::DEFAULT, device);
  std::vector<absl::string_view> missing;
  const auto look = [&](absl::string_view function, const absl::Status& asked) {
    if (absl::IsUnimplemented(asked)) missing.push_back(function);
  };
  look("CopyToHost", converter.CopyToHost(nullptr, 0, stream).status());
  look("HostMemory", converter.HostMemory(0, device).status());
  look("CopyFromHost", converter.CopyFromHost({}, 0, nullptr, stream));
  if (missing.empty()) return "";
  return absl::StrCat("the converter of ", NameOf(device.type()), " has no ",
                      absl::StrJoin(missing, ", "));
}

bool CrossesAsAGpus(const DeviceInfo& device) {
  return device.id.type == "cuda" || device.carried_as;
}

}  // namespace

ConverterRegistry& ConverterRegistry::Global() {
  static ConverterRegistry* const registry = new ConverterRegistry;
  return *registry;
}

absl::Status ConverterRegistry::Register(
    c10::DeviceType type, std::unique_ptr<DeviceConverter> converter) {
  absl::MutexLock lock(&mu_);
  std::unique_ptr<DeviceConverter>& slot =
      converters_[static_cast<size_t>(type)];
  if (slot != nullptr) {
    return absl::AlreadyExistsError(absl::StrCat(
        "device type ", NameOf(type), " has a converter; a second is refused"));
  }
  slot = std::move(converter);
  return absl::OkStatus();
}

absl::StatusOr<const DeviceConverter*> ConverterRegistry::Find(
    c10::DeviceType type) const {
  absl::MutexLock lock(&mu_);
  const DeviceConverter* converter =
      converters_[static_cast<size_t>(type)].get();
  if (converter != nullptr) return converter;
  return absl::InvalidArgumentError(absl::StrCat(
      "no converter for device type ", NameOf(type),
      "; link the library that registers one (for cuda: @tensorferry//:cuda)"));
}

std::vector<DeviceInfo> ConverterRegistry::Devices() const {
  std::vector<std::pair<c10::DeviceType, const DeviceConverter*>> converters;
  {
    absl::MutexLock lock(&mu_);
    for (size_t type = 0; type < converters_.size(); ++type) {
      if (converters_[type] == nullptr) continue;
      converters.emplace_back(static_cast<c10::DeviceType>(type),
                              converters_[type].get());
    }
  }
  // Without the lock: a driver may take its time.
  std::vector<DeviceInfo> devices;
  for (const auto& [type, converter] : converters) {
    for (DeviceInfo& device : converter->Devices()) {
      if (CrossesAsAGpus(device)) {
        const auto index = static_cast<c10::DeviceIndex>(device.id.index);
        device.not_through_host =
            WhyNotThroughHost(*converter, c10::Device(type, index));
      }
      devices.push_back(std::move(device));
    }
  }
  return devices;
}

ConverterRegistrar::ConverterRegistrar(
    c10::DeviceType type, std::unique_ptr<DeviceConverter> converter) {
  absl::Status status =
      ConverterRegistry::Global().Register(type, std::move(converter));
  if (status.ok()) return;
  std::fprintf(stderr, "tensorferry: %s\n", status.ToString().c_str());
  std::abort();
}

}  // namespace tensorferry
