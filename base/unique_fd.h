#ifndef TENSORFERRY_BASE_UNIQUE_FD_H_
#define TENSORFERRY_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

namespace tensorferry {

// Closes the file descriptor that it holds.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    other.Reset();
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }  // nobody closes it here
  void Reset() {
    if (fd_ >= 0) close(Release());
  }

 private:
  int fd_ = -1;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_UNIQUE_FD_H_
