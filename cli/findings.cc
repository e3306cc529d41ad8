#include "cli/findings.h"

#include <ATen/ops/ones.h>
#include <arpa/inet.h>
#include <c10/core/CPUAllocator.h>
#include <dlfcn.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/ptrace_scope.h"
#include "base/unique_fd.h"
#include "cli/device_text.h"
#include "cli/process_memory.h"
#include "cli/values.h"
#include "serialization/converter_registry.h"

namespace tensorferry::cli {
namespace {

using Level = Finding::Level;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  return std::string(absl::StripAsciiWhitespace(text));
}

std::string ToText(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  const void* bytes =
      address->sa_family == AF_INET
          ? static_cast<const void*>(
                &reinterpret_cast<const sockaddr_in*>(address)->sin_addr)
          : &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  inet_ntop(address->sa_family, bytes, text, sizeof(text));
  return text;
}

// The value of a line "key: value" of a file in /proc.
std::string ValueIn(const std::string& path, const std::string& key) {
  for (absl::string_view line : absl::StrSplit(ReadFile(path), '\n')) {
    if (!absl::StartsWith(line, key + ":")) continue;
    line.remove_prefix(key.size() + 1);
    return std::string(absl::StripAsciiWhitespace(line));
  }
  return "unknown";
}

std::string MemInfo(const std::string& key) {
  return ValueIn("/proc/meminfo", key);
}

// CUDA's driver, as far as it tells without the runtime.
struct Driver {
  std::string found;
  int gpus = 0;
};

Driver AskDriver() {
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return {"no CUDA driver (libcuda.so.1)"};
  using Init = int (*)(unsigned);
  using Number = int (*)(int*);
  const auto init = reinterpret_cast<Init>(dlsym(driver, "cuInit"));
  const auto version =
      reinterpret_cast<Number>(dlsym(driver, "cuDriverGetVersion"));
  const auto count =
      reinterpret_cast<Number>(dlsym(driver, "cuDeviceGetCount"));
  if (init == nullptr || version == nullptr || count == nullptr) {
    return {"libcuda.so.1 lacks functions, so is no CUDA driver"};
  }
  int api = 0, gpus = 0;
  const int error = init(0);
  version(&api);
  std::string found =
      absl::StrCat("CUDA driver for ", api / 1000, ".", api % 1000 / 10);
  if (error != 0 || count(&gpus) != 0 || gpus == 0) {
    return {absl::StrCat(found, ", no GPU (cuInit returned ", error, ")")};
  }
  return {absl::StrCat(found, ", ", gpus, gpus == 1 ? " GPU" : " GPUs"), gpus};
}

}  // namespace

Finding CheckAddresses() {
  Finding finding = {"addresses", Level::kGood, "", ""};
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) {
    return {"addresses", Level::kProblem, std::strerror(errno),
            "The network cannot be looked at, so no peer can listen."};
  }
  const absl::Cleanup free_all = [all] { freeifaddrs(all); };
  std::vector<std::string> found;
  bool has_loopback = false;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    found.push_back(absl::StrCat(one->ifa_name, " ", ToText(one->ifa_addr)));
    has_loopback |= (one->ifa_flags & IFF_LOOPBACK) != 0;
  }
  finding.found = found.empty() ? "none" : absl::StrJoin(found, ", ");
  finding.meaning =
      "Control and data listen on loopback, for peers on this host. The other "
      "addresses are of no use before there is authentication.";
  if (!has_loopback) {
    finding.level = Level::kProblem;
    finding.meaning = "There is no loopback: bring it up, `ip link set lo up`.";
  }
  return finding;
}

Finding ExplainProcessMemory(const ProcessMemory& found) {
  Finding finding = {
      "process memory", Level::kGood,
      absl::StrCat("process_vm_readv of a child: ", found.of_child.ToString(),
                   "; of a parent: ", found.of_parent.ToString(),
                   "; ptrace_scope is ", found.ptrace_scope,
                   found.may_trace ? "; CAP_SYS_PTRACE" : ""),
      "Two processes of one user copy tensors straight from memory to memory: "
      "paths unix/local/pool and unix/local/vm."};
  std::string why = WhyPtraceRefuses(found.ptrace_scope, found.may_trace);
  if (why.empty() && !(found.of_child.ok() && found.of_parent.ok())) {
    why =
        "a container needs the capability SYS_PTRACE or a seccomp profile that "
        "allows process_vm_readv";
  }
  if (why.empty()) return finding;
  finding.level = Level::kNote;
  finding.meaning = absl::StrCat(
      "What the path unix/local does not copy into a pool (unix/local/pool) "
      "goes "
      "through a socket (unix/local/stream), which is slower: ",
      why, ".");
  return finding;
}

Finding CheckProcessMemory() {
  ProcessMemory found;
  found.of_child = ReadChildsMemory();
  found.of_parent = LetChildReadMemory();
  found.ptrace_scope = PtraceScope();
  found.may_trace = HasSysPtrace();
  return ExplainProcessMemory(found);
}

Finding CheckOpenFiles() {
  // A session takes some ten sockets on each side.
  constexpr rlim_t kFewest = 64, kComfortable = 1024;
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  Finding finding = {
      "open files", Level::kGood,
      absl::StrCat("limit ", limit.rlim_cur, ", at most ", limit.rlim_max),
      "Enough for some hundred sessions at once."};
  if (limit.rlim_cur < kComfortable) {
    finding.level = limit.rlim_cur < kFewest ? Level::kProblem : Level::kNote;
    finding.meaning =
        "A session takes some ten files on each side: raise it with "
        "`ulimit -n`.";
  }
  return finding;
}

Finding CheckLibtorch() {
  Dl_info where = {};
  const bool known =
      dladdr(reinterpret_cast<const void*>(&c10::GetDefaultCPUAllocator),
             &where) != 0;
  Finding finding = {
      "libtorch", Level::kGood,
      absl::StrCat("built for ", TORCH_VERSION_MAJOR, ".", TORCH_VERSION_MINOR,
                   ".", TORCH_VERSION_PATCH, ", loaded from ",
                   known ? where.dli_fname : "somewhere"),
      "It computes. Both peers may have different versions of it: what goes "
      "over the wire is tensorferry's own format."};
  try {
    if (at::ones({2, 2}).sum().item<float>() == 4) return finding;
    finding.found += ", but 1 + 1 + 1 + 1 is not 4";
  } catch (const std::exception& error) {
    absl::StrAppend(&finding.found, ", but: ", error.what());
  }
  finding.level = Level::kProblem;
  finding.meaning =
      "The library that was found is not the one it was built "
      "for, or is broken: look at LD_LIBRARY_PATH.";
  return finding;
}

Finding CheckGpus() {
  const Driver driver = AskDriver();
  Finding finding = {"gpu", Level::kNote, driver.found, ""};
  if (!ConverterRegistry::Global().Find(c10::DeviceType::CUDA).ok()) {
    finding.meaning =
        "This command moves tensors of the CPU only, and whoever maps some to "
        "cuda:N is refused; tensorferry_cuda knows GPUs.";
  } else if (driver.gpus == 0) {
    finding.meaning =
        "Tensors stay on the CPU, and whoever maps some to cuda:N is refused. "
        "That is all right on a machine without a GPU; into a container, pass "
        "it with its driver.";
  } else if (CheckDevices().empty()) {
    finding.meaning =
        "CUDA's runtime can use none of them, most likely because the driver "
        "is older than it: update the driver.";
  } else {
    finding.level = Level::kGood;
    finding.meaning = "Tensors can be sent from them and received on them.";
  }
  return finding;
}

std::vector<Finding> CheckDevices() {
  std::vector<Finding> findings;
  for (const DeviceInfo& device : ConverterRegistry::Global().Devices()) {
    if (device.id.is_cpu()) continue;
    findings.push_back(
        {ToString(device.id), Level::kGood, ShowDevice(device),
         device.peers.empty()
             ? "What goes to another device is staged by the host."
             : "What goes to a device that it reaches goes there directly."});
  }
  return findings;
}

Finding CheckSharedMemory() {
  struct statvfs shm;
  if (statvfs("/dev/shm", &shm) != 0) {
    return {"shared memory", Level::kNote,
            absl::StrCat("/dev/shm: ", std::strerror(errno)),
            "Not needed by the paths of this build."};
  }
  return {"shared memory", Level::kGood,
          absl::StrCat(
              "/dev/shm has ", ShowBytes(uint64_t{shm.f_bavail} * shm.f_frsize),
              " free of ", ShowBytes(uint64_t{shm.f_blocks} * shm.f_frsize)),
          "Not needed by the paths of this build."};
}

// Empty, or why shared memory has no huge pages here: what tensors are received
// into is made in this way (pool/arena.h).
std::string WhyNoHugePages() {
  constexpr size_t kHugePage = size_t{2} << 20;
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, Linux 6.1
  const UniqueFd memory(memfd_create("doctor", MFD_CLOEXEC));
  if (!memory.valid() || ftruncate(memory.get(), kHugePage) != 0) {
    return absl::StrCat("memfd: ", std::strerror(errno));
  }
  void* const reserved = mmap(nullptr, 2 * kHugePage, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) return std::strerror(errno);
  char* const aligned =
      static_cast<char*>(reserved) +
      (-reinterpret_cast<uintptr_t>(reserved) & (kHugePage - 1));
  std::string why;
  if (mmap(aligned, kHugePage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
           memory.get(), 0) == MAP_FAILED) {
    why = std::strerror(errno);
  } else {
    *aligned = 1;
    if (madvise(aligned, kHugePage, kCollapse) != 0) {
      why = absl::StrCat("MADV_COLLAPSE: ", std::strerror(errno));
    }
  }
  munmap(reserved, 2 * kHugePage);
  return why;
}

Finding CheckHugePages() {
  const std::string why = WhyNoHugePages();
  if (why.empty()) {
    return {
        "huge pages", Level::kGood, "shared memory can have them",
        "Large tensors are received into them while the kernel finds some."};
  }
  return {"huge pages", Level::kNote, why,
          "Large tensors are received into small pages, which take longer to "
          "make, once for each that is kept. Huge ones need Linux 6.1, and "
          "memory that is not in pieces."};
}

Finding CheckMemory() {
  return {"memory", Level::kGood,
          absl::StrCat(MemInfo("MemAvailable"), " available of ",
                       MemInfo("MemTotal"), ", ", get_nprocs(), " CPUs"),
          "A pull needs what its tensors take, and a little."};
}

std::vector<Finding> CheckAll() {
  std::vector<Finding> findings = {CheckAddresses(), CheckProcessMemory(),
                                   CheckOpenFiles(), CheckLibtorch(),
                                   CheckGpus()};
  for (Finding& device : CheckDevices()) findings.push_back(std::move(device));
  for (Finding (*check)() : {CheckMemory, CheckSharedMemory, CheckHugePages}) {
    findings.push_back(check());
  }
  return findings;
}

}  // namespace tensorferry::cli
