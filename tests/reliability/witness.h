#ifndef TENSORFERRY_TESTS_RELIABILITY_WITNESS_H_
#define TENSORFERRY_TESTS_RELIABILITY_WITNESS_H_

#include <memory>

#include "tests/reliability/process_view.h"
#include "tests/reliability/remote_peer.h"

namespace tensorferry {
namespace testing {

// What must hold for a peer whatever is done to it: it runs, an uninvolved
// session to it goes on, new ones are served, and it holds no more than before.
class Witness {
 public:
  // `peer` listens, and must outlive the witness. Takes its measure.
  explicit Witness(RemotePeer& peer);
  // EXPECTs all of it. `more_memory` is what it may have grown by, in bytes.
  void ExpectUnharmed(uint64_t more_memory = uint64_t{4} << 20);
  void ExpectServed();       // EXPECTs that new sessions are
  ProcessView LookAtHeld();  // without memory that is free

 private:
  void Rehearse();

  RemotePeer& peer_;
  std::unique_ptr<RemotePeer> bystander_;
  int64_t session_ = 0;
  ProcessView before_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_WITNESS_H_
