#include "base/ptrace_scope.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"

namespace tensorferry {

bool HasSysPtrace() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return syscall(SYS_capget, &header, data) == 0 &&
         (data[0].effective & (1u << CAP_SYS_PTRACE)) != 0;
}

int PtraceScope() {
  int scope = 0;
  std::ifstream("/proc/sys/kernel/yama/ptrace_scope") >> scope;
  return scope;
}

std::string WhyPtraceRefuses(int scope, bool capable) {
  if (scope <= 0) return "";
  if (scope >= 3) {
    return absl::StrCat("kernel.yama.ptrace_scope is ", scope,
                        ": no process may read another's memory, until the "
                        "system starts with a lower value");
  }
  if (capable) return "";
  return absl::StrCat("kernel.yama.ptrace_scope is ", scope,
                      ": no process may read the memory of one that it did not "
                      "start; set it to 0, or give both peers the capability "
                      "CAP_SYS_PTRACE");
}

}  // namespace tensorferry
