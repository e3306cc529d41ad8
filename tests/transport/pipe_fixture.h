#ifndef TENSORFERRY_TESTS_TRANSPORT_PIPE_FIXTURE_H_
#define TENSORFERRY_TESTS_TRANSPORT_PIPE_FIXTURE_H_

#include <tensorpipe/tensorpipe.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "transport/hub.h"

namespace tensorferry {

// Bounds every wait of these tests; nothing is timed by it.
inline constexpr absl::Duration kPatience = absl::Seconds(30);

SessionKey RandomSession();

// One side of a session: a tensorpipe::Context over a hub's, with the channel
// basic. Closes and joins both at its end.
class Side {
 public:
  explicit Side(std::shared_ptr<tensorpipe::transport::Context> transport);
  ~Side();
  Side(Side&&) = default;

  tensorpipe::Context& context() { return *context_; }
  tensorpipe::transport::Context& transport() { return *transport_; }

  static constexpr char kName[] = "ferry";

 private:
  std::shared_ptr<tensorpipe::transport::Context> transport_;
  std::shared_ptr<tensorpipe::Context> context_;
};

// A message: payload and tensors are bytes.
struct Letter {
  std::string metadata;
  std::vector<std::string> payloads;
  std::vector<std::string> tensors;

  friend bool operator==(const Letter&, const Letter&) = default;
};

absl::Status Send(tensorpipe::Pipe& pipe, const Letter& letter);
absl::StatusOr<Letter> Receive(tensorpipe::Pipe& pipe);
// Sends on one and receives on the other at the same time.
absl::StatusOr<Letter> Carry(tensorpipe::Pipe& from, tensorpipe::Pipe& to,
                             const Letter& letter);

// An accepting and a dialing side and a way to open pipes between them.
class Session {
 public:
  static absl::StatusOr<Session> Open(
      Hub& accepting, Hub& dialing, const std::vector<Wire>& wires,
      const SessionKey& session = RandomSession());

  struct Ends {
    std::shared_ptr<tensorpipe::Pipe> accepted, dialed;
  };
  absl::StatusOr<Ends> OpenPipe();
  // From now on takes, and drops, what pipes the accepting side gets. One that
  // nobody takes and tensorpipe's listener hold each other for ever.
  void DropPipes();

  Side& accepting() { return *accepting_; }
  Side& dialing() { return *dialing_; }
  tensorpipe::Listener& listener() { return *listener_; }
  const std::string& address() const { return address_; }

 private:
  std::unique_ptr<Side> accepting_, dialing_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::string address_;
};

// That a new session with an honest peer works over `wire`.
absl::Status TryHonestSession(Hub& hub, Wire wire);

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSPORT_PIPE_FIXTURE_H_
