#include "serialization/converter_registry.h"

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

std::string NameOf(c10::DeviceType type) {
  return c10::DeviceTypeName(type, /*lower_case=*/true);
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
  std::vector<const DeviceConverter*> converters;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& converter : converters_) {
      if (converter != nullptr) converters.push_back(converter.get());
    }
  }
  // Without the lock: a driver may take its time.
  std::vector<DeviceInfo> devices;
  for (const DeviceConverter* converter : converters) {
    std::vector<DeviceInfo> some = converter->Devices();
    devices.insert(devices.end(), std::make_move_iterator(some.begin()),
                   std::make_move_iterator(some.end()));
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
