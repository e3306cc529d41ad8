// Text as a data address: refused, or one that reads back the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "transport/data_address.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  auto address = tensorferry::ParseDataAddress(text);
  if (!address.ok()) return 0;
  auto again = tensorferry::ParseDataAddress(tensorferry::ToString(*address));
  if (!again.ok() || !(*again == *address)) std::abort();
  tensorferry::IsLoopback(*address);
  return 0;
}
