#include "cli/connection.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/status_macros.h"
#include "cli/security_flags.h"
#include "cli/values.h"
#include "session/blocking.h"

namespace tensorferry::cli {

absl::StatusOr<std::unique_ptr<Peer>> ConnectingPeer(
    const Arguments& arguments) {
  PeerOptions options;
  options.client_security = ClientSecurityOf(arguments);
  FERRY_ASSIGN_OR_RETURN(const std::vector<NamedNumber> limits,
                         NamedNumbersOf(arguments, "limit"));
  for (const NamedNumber& limit : limits) {
    const absl::Status set = SetLimit(limit.name, limit.number, options.limits);
    if (!set.ok()) {
      return UsageError(absl::StrCat("--limit: ", std::string(set.message())));
    }
  }
  FERRY_ASSIGN_OR_RETURN(options.pool_bytes, SizeOf(arguments, "pool_bytes"));
  options.name = absl::StrCat("tensorferry-", getpid());
  options.control = "";
  return Peer::Create(std::move(options));
}

absl::StatusOr<Connection> Connection::Open(const std::string& address,
                                            Offer offer, absl::Duration timeout,
                                            const Arguments& arguments) {
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<Peer> peer, ConnectingPeer(arguments));
  FERRY_ASSIGN_OR_RETURN(
      std::shared_ptr<Session> session,
      blocking::Connect(*peer, address, std::move(offer), timeout));
  return Connection(std::move(peer), std::move(session));
}

Connection::Connection(std::unique_ptr<Peer> peer,
                       std::shared_ptr<Session> session)
    : peer_(std::move(peer)), session_(std::move(session)) {}

void Connection::Close() {
  constexpr absl::Duration kDrain = absl::Seconds(2);
  // What it moved is acknowledged already: how it ends changes nothing.
  blocking::Close(*session_, kDrain).IgnoreError();
  session_.reset();
}

Flag PoolFlag() {
  return {"pool_bytes", "BYTES",
          "How much memory tensors are received into that is kept for the next "
          "ones, like 4GiB;\n      what goes beyond is slower. 0: none. "
          "Default: a quarter of the machine's memory, or of its control "
          "group's\n      (version 2) if that has less."};
}

std::vector<Flag> TransferFlags() {
  return {
      {"map", "SRC=DST",
       "Where tensors go on the receiving side: SRC is a device (cuda:0) or a "
       "glob over names\n      (encoder.*), DST a device. The first that "
       "matches counts.",
       true},
      {"deadline", "TIME",
       "How long it may take, whatever its size, like 30s or 2m. Default: "
       "30s."},
      {"digest", "on|off",
       "Whether a digest of every storage is compared on receipt. Default: "
       "on."},
      {"path", "NAME",
       "The only path to use, as `tensorferry explain` names "
       "it. Default: the best."},
      {"limit", "NAME=VALUE",
       absl::StrCat("A bound on what the peer may ask of this process, like "
                    "message_bytes=128GiB:\n      ",
                    LimitNames(), "."),
       true},
      PoolFlag(),
  };
}

absl::Duration TransferSettings::Left() const {
  return deadline - Clock::Real()->Now();
}

absl::StatusOr<TransferSettings> TransferSettingsOf(
    const Arguments& arguments) {
  TransferSettings settings;
  FERRY_ASSIGN_OR_RETURN(settings.placement, PlacementOf(arguments, "map"));
  FERRY_ASSIGN_OR_RETURN(const absl::Duration deadline,
                         DurationOf(arguments, "deadline", absl::Seconds(30)));
  settings.deadline = Clock::Real()->Now() + deadline;
  FERRY_ASSIGN_OR_RETURN(settings.offer.digests,
                         OnOffOf(arguments, "digest", true));
  if (arguments.Has("path")) settings.offer.paths = {arguments.Get("path")};
  return settings;
}

}  // namespace tensorferry::cli
