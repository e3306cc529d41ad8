#ifndef TENSORFERRY_TESTS_CUDA_CHILD_PEER_H_
#define TENSORFERRY_TESTS_CUDA_CHILD_PEER_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "session/session.h"
#include "tests/testing/child_process.h"

namespace tensorferry {
namespace testing {

// A peer in a process of its own: this program, started with kChildPeer, whose
// main then returns ServeAsChild.
inline constexpr char kChildPeer[] = "--child_peer";

class ChildPeer {
 public:
  static absl::StatusOr<ChildPeer> Start();
  ChildPeer(ChildPeer&&) = default;
  // Unless it was killed it has to end well.
  ~ChildPeer();

  const std::string& address() const { return address_; }
  // What it answers to a line.
  std::string Ask(const std::string& line);
  void Kill();

 private:
  explicit ChildPeer(ChildProcess process) : process_(std::move(process)) {}

  ChildProcess process_;
  std::string address_;
};

// What a receiving side may do: keeps nothing of type 1.
void DropAll(const std::shared_ptr<Session>& session);

// Until standard input is closed. `answer`: to each line of it.
int ServeAsChild(
    const std::function<void(std::shared_ptr<Session>)>& on_session,
    const std::function<std::string(const std::string& line)>& answer =
        [](const std::string& line) { return "unknown: " + line; });

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CUDA_CHILD_PEER_H_
