#ifndef TENSORFERRY_CLI_CONNECTION_H_
#define TENSORFERRY_CLI_CONNECTION_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cli/arguments.h"
#include "control/offer.h"
#include "session/peer.h"
#include "session/session.h"

namespace tensorferry::cli {

// A session with the peer at an address, and what it needs to live. Closed by
// Close, or at once by the destructor.
class Connection {
 public:
  static absl::StatusOr<Connection> Open(const std::string& address,
                                         Offer offer, absl::Duration timeout,
                                         const Arguments& arguments);

  const std::shared_ptr<Session>& session() const { return session_; }
  // Ends the session as wished, so that the other side hears no error.
  void Close();

 private:
  Connection(std::unique_ptr<Peer> peer, std::shared_ptr<Session> session);

  std::unique_ptr<Peer> peer_;
  std::shared_ptr<Session> session_;
};

// What --names takes.
inline constexpr char kNamesHelp[] =
    "Only tensors whose names match: '*' stands for any run of characters, '?' "
    "for one.";

// How much memory is kept to receive into: of serve, too.
Flag PoolFlag();

// A peer that only connects to others, with the flags of its security, and
// --limit and --pool_bytes if the command has them.
absl::StatusOr<std::unique_ptr<Peer>> ConnectingPeer(
    const Arguments& arguments);

// Flags of all commands that move tensors: --map, --deadline, --digest, --path,
// --limit, --pool_bytes.
std::vector<Flag> TransferFlags();

struct TransferSettings {
  Offer offer;  // but for placement
  Placement placement;
  absl::Time deadline;

  absl::Duration Left() const;
};
absl::StatusOr<TransferSettings> TransferSettingsOf(const Arguments& arguments);

}  // namespace tensorferry::cli

#endif  // TENSORFERRY_CLI_CONNECTION_H_
