// Internal to control/.
#ifndef TENSORFERRY_CONTROL_LISTENING_SOCKET_H_
#define TENSORFERRY_CONTROL_LISTENING_SOCKET_H_

#include <sys/stat.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/unique_fd.h"

namespace tensorferry {

// The file of a socket that was bound just now. Goes with it, unless another
// one has taken its place.
class SocketFile {
 public:
  SocketFile() = default;
  explicit SocketFile(std::string path);
  SocketFile(SocketFile&& other) noexcept
      : path_(std::exchange(other.path_, "")), made_(other.made_) {}
  SocketFile& operator=(SocketFile&&) = delete;
  ~SocketFile();

 private:
  std::string path_;  // empty: none
  struct stat made_ = {};
};

struct ListeningSocket {
  UniqueFd fd;
  SocketFile file;
  std::string address;  // with the port that it has
};

// Listens at a valid control address; the file of a unix socket gets `mode`.
// Statuses are those of ControlListener::Listen.
absl::StatusOr<ListeningSocket> ListenAt(const std::string& address,
                                         mode_t mode);

// What errno says, as the reason why there is no listening at `address`.
absl::Status CannotListen(absl::string_view address);

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_LISTENING_SOCKET_H_
