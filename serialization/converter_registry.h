#ifndef TENSORFERRY_SERIALIZATION_CONVERTER_REGISTRY_H_
#define TENSORFERRY_SERIALIZATION_CONVERTER_REGISTRY_H_

#include <c10/core/DeviceType.h>

#include <array>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "serialization/device_converter.h"

namespace tensorferry {

// Device type -> converter. Write-once: a converter that is registered stays,
// for the life of the registry, and a second one for its type is refused.
// Thread-safe.
class ConverterRegistry {
 public:
  // The registry that FERRY_REGISTER_CONVERTER writes to. The CPU converter is
  // in it when //serialization is linked.
  static ConverterRegistry& Global();
  // `registry`; the global one for null.
  static const ConverterRegistry& OrGlobal(const ConverterRegistry* registry) {
    return registry != nullptr ? *registry : Global();
  }

  // ALREADY_EXISTS: this type has a converter.
  absl::Status Register(c10::DeviceType type,
                        std::unique_ptr<DeviceConverter> converter);

  // The converter, owned by the registry.
  // INVALID_ARGUMENT: none registered; names the type and what to link.
  absl::StatusOr<const DeviceConverter*> Find(c10::DeviceType type) const;

  // Of all converters, with what they lack to copy to the host and from it.
  std::vector<DeviceInfo> Devices() const;

 private:
  mutable absl::Mutex mu_;
  std::array<std::unique_ptr<DeviceConverter>,
             static_cast<size_t>(c10::COMPILE_TIME_MAX_DEVICE_TYPES)>
      converters_ ABSL_GUARDED_BY(mu_);
};

// Registers with the global registry; ends the process with a message that
// names the type if it has a converter already (two were linked).
struct ConverterRegistrar {
  ConverterRegistrar(c10::DeviceType type,
                     std::unique_ptr<DeviceConverter> converter);
};

// At namespace scope of a .cc file of an `alwayslink` library:
//   FERRY_REGISTER_CONVERTER(kCUDA, CudaConverter);
#define FERRY_REGISTER_CONVERTER(device_type, Converter)                       \
  static const ::tensorferry::ConverterRegistrar                               \
      ferry_registered_converter_##device_type(::c10::DeviceType::device_type, \
                                               std::make_unique<Converter>())

}  // namespace tensorferry

#endif  // TENSORFERRY_SERIALIZATION_CONVERTER_REGISTRY_H_
