// The transport and the channels that tensorpipe has for host memory. Never
// shm: it busy-polls, and lets in every local user.
#include <sys/prctl.h>
#include <sys/uio.h>
#include <tensorpipe/tensorpipe.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/ptrace_scope.h"
#include "transfer/backend_registry.h"

namespace tensorferry {
namespace {

// Why a peer of the same user could not read this process's memory.
std::string WhyUnreadable() {
  if (prctl(PR_GET_DUMPABLE) != 1) {
    return "this process is not dumpable (PR_SET_DUMPABLE), so that the system "
           "lets no peer read its memory";
  }
  std::string why = WhyPtraceRefuses(PtraceScope(), HasSysPtrace());
  if (!why.empty()) return why;
  char from = 1, to = 0;
  iovec local{&to, 1}, remote{&from, 1};
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1) {
    return absl::StrCat("process_vm_readv is refused here: ",
                        std::strerror(errno));
  }
  return "";
}

const BackendRegistrar uv(TransportBackend{
    "uv", 0, [] { return tensorpipe::transport::uv::create(); }});

const BackendRegistrar basic(ChannelBackend{
    "basic", 1000, ChannelBackend::Reach::kAnywhere, "cpu", "cpu",
    [] { return tensorpipe::channel::basic::create(); }, nullptr});

const BackendRegistrar cma(ChannelBackend{
    "cma", 1200, ChannelBackend::Reach::kSameHostAndUser, "cpu", "cpu",
    [] { return tensorpipe::channel::cma::create(); }, WhyUnreadable});

}  // namespace
}  // namespace tensorferry
