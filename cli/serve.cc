#include "catalog/serve.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status_macros.h"
#include "catalog/atomic_file.h"
#include "catalog/catalog.h"
#include "catalog/safetensors.h"
#include "cli/bundle_name.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/inbox.h"
#include "cli/security_flags.h"
#include "cli/stop_signal.h"
#include "cli/values.h"
#include "control/address.h"
#include "session/blocking.h"
#include "session/peer.h"

namespace tensorferry::cli {
namespace {

// The limits of the catalog.
struct CatalogLimits {
  size_t entries = 65536;
  uint64_t queued_push_bytes = CatalogServerOptions().max_queued_push_bytes;
};

absl::Status PublishFiles(const std::vector<std::string>& paths,
                          SafetensorsMemory memory, Catalog& catalog,
                          const Output& output) {
  for (const std::string& path : paths) {
    FERRY_ASSIGN_OR_RETURN(const std::string bundle, BundleNameOf(path));
    if (catalog.Get(bundle).ok()) {
      return UsageError(absl::StrCat("--publish: two files are called ", bundle,
                                     ".safetensors: rename one"));
    }
    FERRY_ASSIGN_OR_RETURN(NamedTensors contents,
                           ReadSafetensors(path, memory));
    output.Log(absl::StrCat("publishing ", path, " as ", bundle, ": ",
                            contents.names.size(), " tensors, ",
                            ShowBytes(ByteSize(contents))));
    FERRY_RETURN_IF_ERROR(
        catalog.Publish(bundle, std::move(contents)).status());
  }
  return absl::OkStatus();
}

// The host and the ports of "HOST", "HOST:PORT" or "HOST:LOW-HIGH", where an
// IPv6 address may stand in brackets, and must before a port.
std::pair<std::string, std::string> SplitPort(const std::string& data) {
  if (!data.empty() && data[0] == '[') {
    const size_t end = std::min(data.find(']'), data.size() - 1);
    const std::string rest = data.substr(end + 1);
    return {data.substr(1, end - 1), rest.empty() ? "0" : rest.substr(1)};
  }
  const size_t colon = data.find(':');
  if (colon == std::string::npos || colon != data.rfind(':')) {
    return {data, "0"};
  }
  return {data.substr(0, colon), data.substr(colon + 1)};
}

absl::Status SetDataAddress(const Arguments& arguments, PeerOptions& options) {
  if (!arguments.Has("data")) return absl::OkStatus();
  const std::string shown =
      absl::StrCat("--data \"", OneLine(arguments.Get("data")), "\"");
  const auto [host, ports] = SplitPort(arguments.Get("data"));
  const size_t dash = ports.find('-');
  uint32_t low = 0, high = 0;
  if (host.empty() || !absl::SimpleAtoi(ports.substr(0, dash), &low) ||
      !absl::SimpleAtoi(
          dash == std::string::npos ? ports : ports.substr(dash + 1), &high) ||
      low > high || high > 65535) {
    return UsageError(absl::StrCat(shown, " is no HOST:PORT or HOST:LOW-HIGH"));
  }
  options.data = host == "localhost" ? "127.0.0.1" : host;
  options.lowest_data_port = static_cast<uint16_t>(low);
  options.highest_data_port = static_cast<uint16_t>(high);
  return absl::OkStatus();
}

// What --limit knows besides the limits of one session.
constexpr char kPeerLimits[] =
    "sessions, sessions_per_identity, handshakes, handshakes_per_address, "
    "connections_per_session, catalog_entries, queued_push_bytes";

absl::Status SetLimits(const Arguments& arguments, PeerOptions& options,
                       CatalogLimits& catalog) {
  FERRY_ASSIGN_OR_RETURN(const std::vector<NamedNumber> limits,
                         NamedNumbersOf(arguments, "limit"));
  for (const auto& [name, number] : limits) {
    // What is too large for an int is too large for each of them.
    const int small = static_cast<int>(std::min<uint64_t>(number, 1 << 30));
    if (name == "sessions") {
      options.max_sessions = small;
    } else if (name == "sessions_per_identity") {
      options.max_sessions_per_identity = small;
    } else if (name == "handshakes") {
      options.max_handshakes = small;
    } else if (name == "handshakes_per_address") {
      options.max_handshakes_per_address = small;
    } else if (name == "connections_per_session") {
      options.max_connections_per_session = small;
    } else if (name == "catalog_entries") {
      catalog.entries = number;
    } else if (name == "queued_push_bytes") {
      catalog.queued_push_bytes = number;
    } else if (const absl::Status set = SetLimit(name, number, options.limits);
               !set.ok()) {
      return UsageError(absl::StrCat("--limit: ", std::string(set.message()),
                                     ", ", kPeerLimits));
    }
  }
  return absl::OkStatus();
}

// As many descriptors as the process may have: each session takes some.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

absl::StatusOr<PeerOptions> PeerOptionsOf(const Arguments& arguments,
                                          const Output& output,
                                          CatalogLimits& catalog) {
  PeerOptions options;
  options.name = arguments.Get("name");
  options.control = arguments.Get("control");
  if (const absl::Status status = ValidateControlAddress(options.control);
      !status.ok()) {
    return UsageError(
        absl::StrCat("--control: ", std::string(status.message())));
  }
  FERRY_RETURN_IF_ERROR(SetDataAddress(arguments, options));
  options.advertise = arguments.Get("advertise");
  FERRY_RETURN_IF_ERROR(SetLimits(arguments, options, catalog));
  FERRY_ASSIGN_OR_RETURN(options.pool_bytes, SizeOf(arguments, "pool_bytes"));
  FERRY_ASSIGN_OR_RETURN(options.security, ServerSecurityOf(arguments, output));
  return options;
}

// A peer; what is wrong with its options is said of the flags.
absl::StatusOr<std::unique_ptr<Peer>> CreatePeer(PeerOptions options) {
  absl::StatusOr<std::unique_ptr<Peer>> peer = Peer::Create(std::move(options));
  if (peer.ok()) return peer;
  return absl::Status(peer.status().code(),
                      absl::StrReplaceAll(std::string(peer.status().message()),
                                          {{"PeerOptions.max_", "--limit "},
                                           {"PeerOptions.", "--"},
                                           {"security.tls_", "--tls_"},
                                           {"security.token_", "--token_"}}));
}

std::string ToLine(const ServedRequest& served) {
  return absl::StrCat(served.what, " ",
                      served.bundle.empty() ? "of all" : OneLine(served.bundle),
                      " by ", OneLine(served.peer),
                      served.identity.empty()
                          ? ""
                          : absl::StrCat(" (", OneLine(served.identity), ")"),
                      ": ",
                      served.status.ok() ? ShowBytes(served.nbytes)
                                         : OneLine(served.status.ToString()));
}

// `inbox` is null without --accept.
CatalogServerOptions ServerOptionsOf(Inbox* inbox, const CatalogLimits& limits,
                                     const Output& output) {
  CatalogServerOptions options;
  options.max_queued_push_bytes = limits.queued_push_bytes;
  options.on_served = [&output](const ServedRequest& served) {
    output.Log(ToLine(served));
  };
  if (inbox == nullptr) return options;
  options.check_push = [inbox](const std::string& bundle, uint64_t nbytes) {
    return inbox->Check(bundle, nbytes);
  };
  options.accept_push = [inbox](const std::string& bundle,
                                const NamedTensors& contents) {
    return inbox->Take(bundle, contents);
  };
  return options;
}

// The file that says where the server is ready. One that an earlier server left
// says nothing true, so it goes first; ours goes when the server does.
class ReadyFile {
 public:
  explicit ReadyFile(std::string path) : path_(std::move(path)) {
    if (!path_.empty()) unlink(path_.c_str());
  }
  ~ReadyFile() {
    std::string there;
    if (!line_.empty() && std::getline(std::ifstream(path_), there) &&
        there == line_) {
      unlink(path_.c_str());
    }
  }

  absl::Status Write(const std::string& address) {
    if (path_.empty()) return absl::OkStatus();
    FERRY_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file,
                           AtomicFile::Create(path_));
    FERRY_RETURN_IF_ERROR(file->Append(absl::StrCat(address, "\n")));
    line_ = address;
    return file->Commit();
  }

 private:
  const std::string path_;
  std::string line_;
};

absl::Status ServeUntilStopped(PeerOptions options, absl::Duration drain,
                               Catalog& catalog,
                               CatalogServerOptions server_options,
                               ReadyFile& ready, StopSignal& stop,
                               Output& output) {
  CatalogServer server(&catalog, std::move(server_options));
  server.MountOn(options);
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<Peer> peer,
                         CreatePeer(std::move(options)));
  peer->Accept([&server, &output](std::shared_ptr<Session> session) {
    const std::string who = session->remote().name;
    const absl::Status status = server.Serve(std::move(session));
    if (!status.ok()) {
      output.Log(absl::StrCat("session with ", OneLine(who), ": ",
                              OneLine(status.ToString())));
    }
  });
  output.json()["address"] = peer->control_address();
  FERRY_RETURN_IF_ERROR(ready.Write(peer->control_address()));
  output.Log(
      absl::StrCat(peer->id().name, " is ready at ", peer->control_address()));
  stop.Await();
  output.Log(
      absl::StrCat("stopping: sessions have ", ShowTime(drain), " to finish"));
  return blocking::Shutdown(*peer, drain);
}

absl::Status Serve(const Arguments& arguments, Output& output) {
  // Before the first thread: whoever asks to stop is heard from here on.
  FERRY_ASSIGN_OR_RETURN(StopSignal stop, StopSignal::Catch());
  RaiseDescriptorLimit();
  CatalogLimits limits;
  FERRY_ASSIGN_OR_RETURN(PeerOptions options,
                         PeerOptionsOf(arguments, output, limits));
  FERRY_ASSIGN_OR_RETURN(const absl::Duration drain,
                         DurationOf(arguments, "drain", absl::Seconds(10)));
  ReadyFile ready(arguments.Get("ready_file"));
  Catalog catalog(limits.entries);
  FERRY_RETURN_IF_ERROR(PublishFiles(arguments.All("publish"),
                                     arguments.Has("copy")
                                         ? SafetensorsMemory::kCopied
                                         : SafetensorsMemory::kMapped,
                                     catalog, output));
  std::optional<Inbox> inbox;
  if (arguments.Has("accept")) {
    inbox.emplace(arguments.Get("accept"));
    FERRY_RETURN_IF_ERROR(inbox->PublishAll(catalog, output));
  }
  return ServeUntilStopped(
      std::move(options), drain, catalog,
      ServerOptionsOf(inbox.has_value() ? &*inbox : nullptr, limits, output),
      ready, stop, output);
}

constexpr char kHelp[] =
    "Files are mapped, not read, unless --copy is given: replace one by "
    "renaming another\nover it. After a change in place pulls are refused, "
    "FAILED_PRECONDITION; during one,\nnew bytes may be sent as old ones, "
    "and a file that is cut short ends the process\nwith SIGBUS.\n\n"
    "A push becomes the file DIR/BUNDLE.safetensors, which is mapped and "
    "published as the\nbundle's next version. Files that are in DIR at the "
    "start are published, after those\nof --publish. A file that somebody "
    "else put there later is not replaced: the push is\nALREADY_EXISTS. "
    "One that DIR's disk has no room for is refused before it is sent.\n\n"
    "Certificates, tokens and the policy are read again when their files "
    "are others:\nreplace them by renaming new ones over them. The soft "
    "limit of open files is raised\nto the hard one; where they are scarce, "
    "sessions get fewer lanes, and those that do\nnot fit are "
    "RESOURCE_EXHAUSTED.\n\n"
    "SIGTERM and SIGINT let running pulls finish, and the exit code is 0; a "
    "second signal,\nof either kind, ends the process at once.\n\n"
    "  tensorferry serve --name store --control 127.0.0.1:4750 --publish "
    "model.safetensors\n"
    "  tensorferry serve --name inbox --control 127.0.0.1:0 --accept "
    "/var/tmp/inbox \\\n      --ready_file /run/inbox.address\n"
    "  tensorferry serve --name store --control 0.0.0.0:4750 --data "
    "0.0.0.0:4751-4760 \\\n      --advertise 192.0.2.7 --tls_cert "
    "store.pem --tls_key store.key \\\n      --tls_client_ca ca.pem "
    "--policy policy.textproto --publish model.safetensors\n";

}  // namespace

Command ServeCommand() {
  Command command = {
      "serve",
      "Lets others list, pull and push; runs until SIGTERM.",
      {},
      {{"name", "NAME", "What the others call this peer.", false, true},
       {"control", "HOST:PORT",
        "Where it is asked, by gRPC: HOST:PORT, port 0 is any free one, or "
        "unix:PATH. Beyond\n      loopback only with TLS and "
        "--tls_client_ca or --token_file, or with --insecure.",
        false, true},
       {"data", "HOST:PORT|HOST:LOW-HIGH",
        "Where tensors come and go. Default: 127.0.0.1, any free port. Beyond "
        "loopback only\n      if callers are authenticated, or with "
        "--insecure."},
       {"advertise", "HOST",
        "How others reach HOST of --data, an IP address. Default: HOST."},
       {"publish", "FILE.safetensors",
        "A file to give away, as a bundle that is called like it.", true},
       {"copy", "",
        "Read the files of --publish into memory instead of mapping them."},
       {"accept", "DIR",
        "Take pushes: write them to DIR/BUNDLE.safetensors and publish them."},
       {"ready_file", "PATH",
        "Once ready, write the control address there, one line, atomically; "
        "removed at\n      the start and at the end."},
       {"drain", "TIME",
        "How long sessions may take to finish after SIGTERM. Default: 10s."},
       PoolFlag(),
       {"limit", "NAME=VALUE",
        absl::StrCat("A bound on what others may ask of this peer, like "
                     "sessions=64 or\n      message_bytes=4GiB: ",
                     kPeerLimits, ",\n      and of one session ", LimitNames(),
                     "."),
        true}},
      kHelp,
      Serve};
  for (Flag& flag : ServingFlags()) command.flags.push_back(std::move(flag));
  return command;
}

}  // namespace tensorferry::cli
