#ifndef TENSORFERRY_BENCHMARKS_NEIGHBOURS_LIMITS_H_
#define TENSORFERRY_BENCHMARKS_NEIGHBOURS_LIMITS_H_

#include "benchmarks/neighbours/neighbour.h"

namespace tensorferry::benchmarks {

// What the machine can do, with plain system calls: one thread on each side,
// a socket to tell that there is something and that it has been taken. The
// receiver knows the sizes beforehand; nothing is checked.

// The sender copies into memory that the receiver shares, into no other. With
// `threads` copying at once.
Neighbour MemcpyLimit(int threads);
// The receiver copies out of the sender's memory: process_vm_readv.
Neighbour ReadvLimit();
// writev and readv on a TCP connection over loopback.
Neighbour TcpLimit();

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_NEIGHBOURS_LIMITS_H_
