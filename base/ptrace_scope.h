#ifndef TENSORFERRY_TRANSFER_PTRACE_SCOPE_H_
#define TENSORFERRY_TRANSFER_PTRACE_SCOPE_H_

#include <string>

namespace tensorferry {

// Why kernel.yama.ptrace_scope `scope` lets no unrelated process of the same
// user read another's memory, and what to do about it; empty: it does. 0 is
// also a system without Yama. `capable`: the processes have CAP_SYS_PTRACE.
std::string WhyPtraceRefuses(int scope, bool capable);

// The same for this system and process; that the peer has what this process
// has is for the peer to say.
std::string WhyPtraceRefuses();

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_PTRACE_SCOPE_H_
