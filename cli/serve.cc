#include "catalog/serve.h"

#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "catalog/atomic_file.h"
#include "catalog/catalog.h"
#include "catalog/safetensors.h"
#include "cli/bundle_name.h"
#include "cli/commands.h"
#include "cli/stop_signal.h"
#include "cli/values.h"
#include "session/blocking.h"
#include "session/peer.h"

namespace tensorferry::cli {
namespace {

absl::Status PublishFiles(const std::vector<std::string>& paths,
                          Catalog& catalog, const Output& output) {
  for (const std::string& path : paths) {
    FERRY_ASSIGN_OR_RETURN(const std::string bundle, BundleNameOf(path));
    if (catalog.Get(bundle).ok()) {
      return UsageError(absl::StrCat("--publish: two files are called ", bundle,
                                     ".safetensors: rename one"));
    }
    FERRY_ASSIGN_OR_RETURN(NamedTensors contents, ReadSafetensors(path));
    output.Log(absl::StrCat("publishing ", path, " as ", bundle, ": ",
                            contents.names.size(), " tensors, ",
                            ShowBytes(ByteSize(contents))));
    FERRY_RETURN_IF_ERROR(
        catalog.Publish(bundle, std::move(contents)).status());
  }
  return absl::OkStatus();
}

absl::Status CheckAcceptFolder(const std::string& folder) {
  struct stat found;
  if (stat(folder.c_str(), &found) != 0) {
    return FileError(errno, absl::StrCat("--accept ", folder));
  }
  if (!S_ISDIR(found.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--accept ", folder, " is not a folder"));
  }
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    return FileError(errno, absl::StrCat("--accept ", folder));
  }
  return absl::OkStatus();
}

// Splits "HOST", "HOST:PORT" or "HOST:LOW-HIGH"; "[::1]:0" has its brackets.
std::pair<std::string, std::string> SplitPort(const std::string& data) {
  const size_t colon = data.rfind(':');
  const size_t bracket = data.rfind(']');
  const bool has_port = colon != std::string::npos &&
                        (bracket == std::string::npos || bracket < colon);
  if (!has_port) return {data, "0"};
  return {data.substr(0, colon), data.substr(colon + 1)};
}

absl::Status SetDataAddress(const Arguments& arguments, PeerOptions& options) {
  if (!arguments.Has("data")) return absl::OkStatus();
  const auto [host, ports] = SplitPort(arguments.Get("data"));
  const size_t dash = ports.find('-');
  uint32_t low = 0, high = 0;
  if (host.empty() || !absl::SimpleAtoi(ports.substr(0, dash), &low) ||
      !absl::SimpleAtoi(
          dash == std::string::npos ? ports : ports.substr(dash + 1), &high) ||
      low > high || high > 65535) {
    return UsageError(absl::StrCat("--data \"",
                                   absl::Utf8SafeCEscape(arguments.Get("data")),
                                   "\" is no HOST:PORT or HOST:LOW-HIGH"));
  }
  if (high != 0) {
    return absl::FailedPreconditionError(
        "--data: the transport of this build takes any free port: leave the "
        "port away, or say 0");
  }
  options.data = host;
  return absl::OkStatus();
}

absl::StatusOr<PeerOptions> PeerOptionsOf(const Arguments& arguments) {
  PeerOptions options;
  options.name = arguments.Get("name");
  options.control = arguments.Get("control");
  FERRY_RETURN_IF_ERROR(SetDataAddress(arguments, options));
  if (arguments.Has("advertise")) {
    return absl::FailedPreconditionError(
        "--advertise: the transport of this build is for one host, where "
        "there is nothing to advertise");
  }
  return options;
}

CatalogServerOptions ServerOptionsOf(const Arguments& arguments,
                                     const Output& output) {
  CatalogServerOptions options;
  options.on_served = [&output](const ServedRequest& served) {
    output.Log(absl::StrCat(served.what, " ",
                            served.bundle.empty() ? "of all" : served.bundle,
                            " by ", served.peer, ": ",
                            served.status.ok() ? ShowBytes(served.nbytes)
                                               : served.status.ToString()));
  };
  if (arguments.Has("accept")) {
    options.accept_push = [folder = arguments.Get("accept")](
                              const std::string& bundle,
                              const NamedTensors& contents) {
      return WriteSafetensors(absl::StrCat(folder, "/", bundle, ".safetensors"),
                              contents);
    };
  }
  return options;
}

absl::Status WriteReadyFile(const std::string& path,
                            const std::string& address) {
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file,
                         AtomicFile::Create(path));
  FERRY_RETURN_IF_ERROR(file->Append(absl::StrCat(address, "\n")));
  return file->Commit();
}

absl::Status ServeUntilStopped(const Arguments& arguments, PeerOptions options,
                               Catalog& catalog, absl::Duration drain,
                               Output& output) {
  // Before the first thread: whoever asks to stop is heard from here on.
  FERRY_ASSIGN_OR_RETURN(StopSignal stop, StopSignal::Catch());
  CatalogServer server(&catalog, ServerOptionsOf(arguments, output));
  server.MountOn(options);
  FERRY_ASSIGN_OR_RETURN(std::unique_ptr<Peer> peer,
                         Peer::Create(std::move(options)));
  peer->Accept([&server, &output](std::shared_ptr<Session> session) {
    const std::string who = session->remote().name;
    const absl::Status status = server.Serve(std::move(session));
    if (!status.ok()) {
      output.Log(absl::StrCat("session with ", who, ": ", status.ToString()));
    }
  });
  output.json()["address"] = peer->control_address();
  if (arguments.Has("ready_file")) {
    FERRY_RETURN_IF_ERROR(
        WriteReadyFile(arguments.Get("ready_file"), peer->control_address()));
  }
  output.Log(
      absl::StrCat(peer->id().name, " is ready at ", peer->control_address()));
  stop.Await();
  output.Log(
      absl::StrCat("stopping: sessions have ", ShowTime(drain), " to finish"));
  return blocking::Shutdown(*peer, drain);
}

absl::Status Serve(const Arguments& arguments, Output& output) {
  FERRY_ASSIGN_OR_RETURN(PeerOptions options, PeerOptionsOf(arguments));
  FERRY_ASSIGN_OR_RETURN(const absl::Duration drain,
                         DurationOf(arguments, "drain", absl::Seconds(10)));
  if (arguments.Has("accept")) {
    FERRY_RETURN_IF_ERROR(CheckAcceptFolder(arguments.Get("accept")));
  }
  Catalog catalog;
  FERRY_RETURN_IF_ERROR(
      PublishFiles(arguments.All("publish"), catalog, output));
  return ServeUntilStopped(arguments, std::move(options), catalog, drain,
                           output);
}

}  // namespace

Command ServeCommand() {
  return {
      "serve",
      "Lets others list, pull and push; runs until SIGTERM.",
      {},
      {{"name", "NAME", "What the others call this peer.", false, true},
       {"control", "HOST:PORT",
        "Where it is asked, by gRPC; port 0 is any free one. Loopback only.",
        false, true},
       {"data", "HOST:PORT|HOST:LOW-HIGH",
        "Where tensors come and go. Loopback only, and any free port, as yet."},
       {"advertise", "HOST",
        "How others reach HOST of --data. Of no use before other hosts can."},
       {"publish", "FILE.safetensors",
        "A file to give away, as a bundle that is called like it.", true},
       {"accept", "DIR",
        "Take pushes: write them to DIR/BUNDLE.safetensors and publish them."},
       {"ready_file", "PATH",
        "Once ready, write the control address there, one line, atomically."},
       {"drain", "TIME",
        "How long sessions may take to finish after SIGTERM. Default: 10s."}},
      "Files of --publish are mapped, not read: replace one by renaming "
      "another over it,\nand never write into it while it is served. SIGTERM "
      "and SIGINT let running pulls\nfinish, and the exit code is 0; a second "
      "one ends the process at once.\n\n"
      "  tensorferry serve --name store --control 127.0.0.1:4750 --publish "
      "model.safetensors\n"
      "  tensorferry serve --name inbox --control 127.0.0.1:0 --accept "
      "/var/tmp/inbox \\\n      --ready_file /run/inbox.address\n",
      Serve};
}

}  // namespace tensorferry::cli
