#ifndef TENSORFERRY_BASE_RANDOM_BYTES_H_
#define TENSORFERRY_BASE_RANDOM_BYTES_H_

#include <cstddef>

#include "absl/status/status.h"

namespace tensorferry {

// Bytes from the system that nobody can guess: for keys, nonces, and names that
// must not be taken by others. INTERNAL: the system gives none (getrandom is
// missing or forbidden); `out` is then not to be used.
absl::Status RandomBytes(void* out, size_t size);

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_RANDOM_BYTES_H_
