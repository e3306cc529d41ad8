#ifndef TENSORFERRY_BASE_PTRACE_SCOPE_H_
#define TENSORFERRY_BASE_PTRACE_SCOPE_H_

#include <string>

namespace tensorferry {

// kernel.yama.ptrace_scope of this system; 0 also where there is no Yama.
int PtraceScope();

// Whether CAP_SYS_PTRACE is effective in this process.
bool HasSysPtrace();

// Why kernel.yama.ptrace_scope `scope` lets no unrelated process of the same
// user read another's memory, and what to do about it; empty: it does.
// `capable`: both processes have CAP_SYS_PTRACE.
std::string WhyPtraceRefuses(int scope, bool capable);

}  // namespace tensorferry

#endif  // TENSORFERRY_BASE_PTRACE_SCOPE_H_
