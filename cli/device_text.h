#ifndef TENSORFERRY_CLI_DEVICE_TEXT_H_
#define TENSORFERRY_CLI_DEVICE_TEXT_H_

#include <string>

#include "base/device_id.h"
#include "cli/output.h"

namespace tensorferry::cli {

// A device as `describe` and `doctor` show it, with what is known of it.
// "NVIDIA H200, 139.0 GiB free of 140.4 GiB, GPU-..., driver 13.2, ...".
std::string ShowDevice(const DeviceInfo& device);
Json DeviceToJson(const DeviceInfo& device);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_DEVICE_TEXT_H_
