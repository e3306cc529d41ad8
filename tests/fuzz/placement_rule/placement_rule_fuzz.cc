// Text as lines of placement rules: each refused, or one that reads back the
// same. Those that are rules place a tensor, within their steps, and are
// inverted.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/placement.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  tensorferry::Placement placement;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    const auto rule = tensorferry::ParsePlacementRule(line);
    if (!rule.ok()) continue;
    const auto again =
        tensorferry::ParsePlacementRule(tensorferry::ToString(*rule));
    if (!again.ok() || !(*again == *rule)) std::abort();
    placement.rules.push_back(*rule);
  }
  for (const auto& rule : placement.rules) {
    int64_t steps = 4096;
    const auto target = placement.TargetFor(rule.source, text, &steps);
    if (steps < 0 && target.ok()) std::abort();
  }
  // What places one to one also does so backwards.
  const auto inverse = tensorferry::Invert(placement);
  if (inverse.ok() && !tensorferry::Invert(*inverse).ok()) std::abort();
  return 0;
}
