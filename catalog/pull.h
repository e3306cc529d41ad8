#ifndef TENSORFERRY_CATALOG_PULL_H_
#define TENSORFERRY_CATALOG_PULL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/done.h"
#include "catalog/named_tensors.h"
#include "catalog/progress.h"
#include "serialization/allocate.h"
#include "serialization/streams.h"
#include "session/session.h"
#include "transfer/link.h"
#include "transfer/receipt.h"

namespace tensorferry {

struct PullOptions {
  // Which bundle; empty: all that the peer has.
  std::string bundle;
  // A glob: only tensors whose names it matches.
  std::string names = "*";
  // For the question and the transfer together.
  absl::Duration timeout = absl::Minutes(1);
  // The caller's own tensors, by name, to be filled; empty: new ones are made.
  Destination into;
  // Where work on GPUs is queued; empty: on the session's own streams.
  StreamSet streams;
  // Is told how far it is, and costs one more question: how much will come.
  ProgressCallback progress;
};

struct BundleVersion {
  std::string name;
  uint64_t version = 0;
  friend bool operator==(const BundleVersion&, const BundleVersion&) = default;
};

struct Pulled {
  std::vector<BundleVersion> bundles;  // that the tensors are of
  // Of several bundles the metadata is put together; a key that they disagree
  // on becomes "bundle/key".
  NamedTensors contents;
  Receipt receipt;  // of the message that brought the tensors
};

// Gets tensors of a peer's bundles through `session`, where the session's
// placement says. All are of the versions named in the result, whatever is
// published meanwhile.
//
// NOT_FOUND: no such bundle, or no tensor matches. INVALID_ARGUMENT: two
// bundles have a tensor of one name (choose a bundle), `into` does not fit, or
// an answer that contradicts itself. Else what Session::Call says;
// DEADLINE_EXCEEDED also if the peer serves no catalog.
Operation Pull(std::shared_ptr<Session> session, PullOptions options,
               Done<Pulled> done);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_PULL_H_
