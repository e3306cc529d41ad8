#include "base/device_id.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace {

constexpr size_t kMaxText = 32;
constexpr int kMaxIndex = 127;

bool IsType(absl::string_view type) {
  if (type.empty() || !absl::ascii_islower(type[0])) return false;
  for (char c : type) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '_') {
      return false;
    }
  }
  return true;
}

// SimpleAtoi alone would take signs and blanks.
bool ParseIndex(absl::string_view text, int* index) {
  if (text.empty() || text.size() > 3) return false;
  for (char c : text) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  return absl::SimpleAtoi(text, index);
}

absl::Status NotADevice(absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", text.substr(0, kMaxText),
      "\" is not a device; want \"cpu\" or a type and an index up to ",
      kMaxIndex, ", like \"cuda:1\""));
}

}  // namespace

std::string ToString(const DeviceId& device) {
  if (device.is_cpu() && device.index == 0) return device.type;
  return absl::StrCat(device.type, ":", device.index);
}

absl::StatusOr<DeviceId> ParseDeviceId(absl::string_view text) {
  if (text.size() > kMaxText) return NotADevice(text);
  DeviceId device;
  size_t colon = text.find(':');
  device.type = std::string(text.substr(0, colon));
  if (colon != absl::string_view::npos &&
      !ParseIndex(text.substr(colon + 1), &device.index)) {
    return NotADevice(text);
  }
  if (!ValidateDeviceId(device).ok()) return NotADevice(text);
  return device;
}

absl::Status ValidateDeviceId(const DeviceId& device) {
  bool index_fits = device.index >= 0 && device.index <= kMaxIndex &&
                    (!device.is_cpu() || device.index == 0);
  if (IsType(device.type) && index_fits &&
      ToString(device).size() <= kMaxText) {
    return absl::OkStatus();
  }
  return NotADevice(ToString(device));
}

}  // namespace tensorferry
