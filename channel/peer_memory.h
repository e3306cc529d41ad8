#ifndef TENSORFERRY_CHANNEL_PEER_MEMORY_H_
#define TENSORFERRY_CHANNEL_PEER_MEMORY_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/peer_process.h"
#include "channel/local_frame.h"

namespace tensorferry {

// 16 random bytes in this process's memory that a peer looks for to be sure
// whose memory it reads, and that nothing was let go since: they are there as
// long as what was offered may be read.
class PlacedNonce {
 public:
  PlacedNonce();
  ~PlacedNonce() { Erase(); }

  // Not OK: the system gave no random bytes, and nothing must be offered.
  const absl::Status& status() const { return status_; }

  uint64_t address() const { return reinterpret_cast<uint64_t>(words_); }
  MemoryNonce value() const { return value_; }
  // From now on no copy of the peer's succeeds.
  void Erase();

 private:
  MemoryNonce value_ = {};
  absl::Status status_;  // of filling it
  std::atomic<uint64_t> words_[2];
};

// The memory of a process that has been proved to be the peer.
class PeerMemory {
 public:
  // FAILED_PRECONDITION: why it is not proved, or not readable.
  static absl::StatusOr<PeerMemory> Prove(const PeerProcess& process,
                                          uint64_t nonce_address,
                                          const MemoryNonce& nonce);

  // Reads `length` bytes, from a process that has the nonce at the end of the
  // copy: its id may be another's by now. Blocks as long as the copy lasts.
  // FAILED_PRECONDITION: the system refuses. UNAVAILABLE: the peer died, or has
  // taken back what it offered. NOT_FOUND: it has no such memory, or only the
  // process itself may read it (what CUDA has pinned, say). After an error
  // anything may be in `to`.
  absl::Status Read(uint64_t from, void* to, uint64_t length) const;

 private:
  PeerMemory(pid_t pid, uint64_t nonce_address, const MemoryNonce& nonce)
      : pid_(pid), nonce_address_(nonce_address), nonce_(nonce) {}
  bool HasNonce() const;

  pid_t pid_;
  uint64_t nonce_address_;
  MemoryNonce nonce_;
};

// Equal in two processes exactly if, as far as names can tell, each may find
// the other by its id and read its memory: same boot, pid and user namespaces,
// user. Empty: unknown.
std::string MemoryDomain();

// Why no other process of the same user may read this one's memory; empty: it
// may, as far as this side can tell.
std::string WhyOthersAreRefused();

}  // namespace tensorferry

#endif  // TENSORFERRY_CHANNEL_PEER_MEMORY_H_
