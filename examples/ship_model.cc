// Ships a real model between two processes and proves that it arrived.
//
// A server process publishes the tensors of a safetensors file; a client
// process negotiates a session with it over gRPC, pulls them over tensorpipe
// and writes them to a file of its own. The two files are then compared byte
// for byte: exit code 0 if they are equal, else 1.
//
//   tools/bazel run //examples:ship_model
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "catalog/blocking.h"
#include "catalog/catalog.h"
#include "catalog/safetensors.h"
#include "catalog/serve.h"
#include "examples/compare_files.h"
#include "session/blocking.h"
#include "session/peer.h"

ABSL_FLAG(std::string, model, "", "The safetensors file to ship.");
ABSL_FLAG(std::string, out, "",
          "Where the client writes it; by default a file that is removed again "
          "at the end.");

namespace tensorferry {
namespace {

constexpr double kMega = 1e6;

void CloseAll(std::initializer_list<int> fds) {
  for (int fd : fds) close(fd);
}

std::string ReadToEnd(int fd) {
  std::string text;
  char buffer[256];
  for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
    text.append(buffer, n);
  }
  return text;
}

// ---- the server process ----

// Publishes the model, tells its address to `ready`, serves until `stop` ends.
absl::Status Serve(const std::string& model, int ready, int stop) {
  Catalog catalog;
  FERRY_ASSIGN_OR_RETURN(NamedTensors contents, ReadSafetensors(model));
  FERRY_RETURN_IF_ERROR(catalog.Publish("model", std::move(contents)).status());

  CatalogServer server(&catalog, {});
  PeerOptions options = {.name = "server"};
  server.MountOn(options);
  FERRY_ASSIGN_OR_RETURN(auto peer, Peer::Create(std::move(options)));
  peer->Accept([&server](std::shared_ptr<Session> session) {
    server.Serve(std::move(session)).IgnoreError();
  });
  std::printf("server  process %d offers %s at %s\n", getpid(), model.c_str(),
              peer->control_address().c_str());
  std::fflush(stdout);
  const std::string& address = peer->control_address();
  if (write(ready, address.data(), address.size()) < 0) {
    return absl::InternalError("the client process is gone");
  }
  close(ready);
  ReadToEnd(stop);
  return blocking::Shutdown(*peer, absl::Seconds(5));
}

// ---- the client process ----

void ShowProgress(Progress progress) {
  std::fprintf(stderr, "\r        %5.1f of %.1f MB", progress.bytes / kMega,
               progress.total / kMega);
  if (progress.bytes >= progress.total) std::fputc('\n', stderr);
}

void PrintReceipt(const Pulled& pulled) {
  const Receipt& receipt = pulled.receipt;
  const double seconds = absl::ToDoubleSeconds(receipt.time);
  std::printf(
      "client  pulled %s version %d: %d tensors, %.1f MB in %.3f s, "
      "%.2f GB/s\n",
      pulled.bundles[0].name.c_str(),
      static_cast<int>(pulled.bundles[0].version), receipt.tensors,
      receipt.bytes / kMega, seconds, receipt.bytes / 1e9 / seconds);
  for (const PathUse& use : receipt.paths) {
    std::printf(
        "        %.1f MB over %s%s\n", use.bytes / kMega, use.path.c_str(),
        use.status.ok()
            ? ""
            : absl::StrCat(", given up: ", use.status.ToString()).c_str());
  }
  std::printf("        digest %s, verified\n", receipt.digest.c_str());
}

absl::Status PullTo(const std::string& out, const std::string& address) {
  if (address.empty())
    return absl::UnavailableError("the server did not start");
  FERRY_ASSIGN_OR_RETURN(auto peer,
                         Peer::Create({.name = "client", .control = ""}));
  FERRY_ASSIGN_OR_RETURN(
      auto session,
      blocking::Connect(*peer, address, Offer(), absl::Seconds(10)));
  std::printf("client  process %d agreed with it on this plan:\n%s\n", getpid(),
              ToString(session->plan()).c_str());

  PullOptions options = {.bundle = "model"};
  if (isatty(STDERR_FILENO)) options.progress = ShowProgress;
  FERRY_ASSIGN_OR_RETURN(Pulled pulled,
                         blocking::Pull(session, std::move(options)));
  FERRY_RETURN_IF_ERROR(WriteSafetensors(out, pulled.contents));
  PrintReceipt(pulled);
  return blocking::Close(*session, absl::Seconds(5)).status();
}

// ---- both ----

absl::Status Compare(const std::string& model, const std::string& out) {
  FERRY_ASSIGN_OR_RETURN(const uint64_t bytes, CompareFiles(model, out));
  std::printf("        %s and the original are identical, %.1f MB\n",
              out.c_str(), bytes / kMega);
  return absl::OkStatus();
}

int Report(const char* who, const absl::Status& status) {
  std::fflush(stdout);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s  %s\n", who, status.ToString().c_str());
  return 1;
}

bool EndedWell(pid_t process) {
  int status = 0;
  return waitpid(process, &status, 0) == process && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

// Whoever stops this process stops the other two, and what they leave behind is
// removed as ever.
pid_t server = 0, client = 0;

void PassOn(int signal) {
  for (pid_t process : {server, client}) {
    if (process > 0) kill(process, signal);
  }
}

void HandleStops(void (*handler)(int)) {
  signal(SIGINT, handler);
  signal(SIGTERM, handler);
}

// Two processes, forked while this one has no threads yet.
int Ship(const std::string& model, const std::string& out) {
  int ready[2], stop[2];
  if (pipe(ready) != 0 || pipe(stop) != 0) return 1;
  HandleStops(PassOn);
  server = fork();
  if (server == 0) {
    HandleStops(SIG_DFL);
    CloseAll({ready[0], stop[1]});
    return Report("server", Serve(model, ready[1], stop[0]));
  }
  if (server < 0) return 1;
  client = fork();
  if (client == 0) {
    HandleStops(SIG_DFL);
    CloseAll({ready[1], stop[0], stop[1]});
    return Report("client", PullTo(out, ReadToEnd(ready[0])));
  }
  CloseAll({ready[0], ready[1], stop[0]});
  const bool pulled = EndedWell(client);
  close(stop[1]);  // the server ends
  const bool served = EndedWell(server);
  if (!pulled || !served) return 1;
  return Report("        ", Compare(model, out));
}

// As the user meant it, who is elsewhere under `bazel run`.
std::string Resolve(const std::string& path) {
  const char* const folder = std::getenv("BUILD_WORKING_DIRECTORY");
  if (folder == nullptr) return path;
  return std::filesystem::path(folder) / path;
}

int Main() {
  const std::string model = absl::GetFlag(FLAGS_model);
  if (model.empty()) {
    std::fputs("--model FILE.safetensors is needed\n", stderr);
    return 2;
  }
  std::string out = absl::GetFlag(FLAGS_out);
  if (!out.empty()) return Ship(model, Resolve(out));
  std::string folder =
      (std::filesystem::temp_directory_path() / "ship_model_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    std::perror(folder.c_str());
    return 1;
  }
  const pid_t self = getpid();
  auto remove = absl::MakeCleanup([&] {
    std::error_code ignored;
    if (getpid() == self) std::filesystem::remove_all(folder, ignored);
  });
  return Ship(model, folder + "/pulled.safetensors");
}

}  // namespace
}  // namespace tensorferry

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Ships a model between two processes and compares what arrived.\n"
      "  ship_model --model FILE.safetensors [--out FILE.safetensors]");
  absl::ParseCommandLine(argc, argv);
  return tensorferry::Main();
}
