#include "base/random_bytes.h"

#include <sys/random.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace tensorferry {

absl::Status RandomBytes(void* out, size_t size) {
  auto* next = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t got = getrandom(next, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return absl::InternalError(absl::StrCat(
          "no random bytes from the system: getrandom: ", strerror(errno)));
    }
    next += got;
    size -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace tensorferry
