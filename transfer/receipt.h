#ifndef TENSORFERRY_TRANSFER_RECEIPT_H_
#define TENSORFERRY_TRANSFER_RECEIPT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace tensorferry {

// A path that an operation used or tried.
struct PathUse {
  // "tcp/basic"; with the strategy of a channel that has some:
  // "unix/local/lease", "unix/local/pool", "unix/local/vm". "inline" for bytes
  // within the header. A wire alone, "unix", if the session could not be opened
  // over it; "pool" alone, at the receiver, if that had no room for some of it.
  std::string path;
  uint64_t bytes = 0;   // carried by it
  absl::Status status;  // why it was given up; OK: it was not
};

// What a finished operation reports.
struct Receipt {
  uint64_t operation = 0;  // of the sender, counted from 1 within its session
  uint64_t bytes = 0;      // that crossed the wire for this message
  // Of these: between devices that the plan sends through host memory, to or
  // from which the side of a GPU copies.
  uint64_t bytes_through_host = 0;
  int tensors = 0;
  absl::Duration time;  // from the call to its completion
  std::vector<PathUse> paths;
  std::string digest;  // over all storages, 32 hex digits; empty: off
  int bounced = 0;     // destinations that were filled through a copy
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_RECEIPT_H_
