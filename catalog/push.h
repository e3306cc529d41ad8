#ifndef TENSORFERRY_CATALOG_PUSH_H_
#define TENSORFERRY_CATALOG_PUSH_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "base/done.h"
#include "catalog/named_tensors.h"
#include "catalog/progress.h"
#include "serialization/streams.h"
#include "session/session.h"
#include "transfer/link.h"
#include "transfer/receipt.h"

namespace tensorferry {

struct PushOptions {
  // What they become a new version of.
  std::string bundle;
  // For the offer, the transfer and the publication together.
  absl::Duration timeout = absl::Minutes(1);
  // Where work on GPUs is queued; empty: on the session's own streams.
  StreamSet streams;
  // Is told how far it is; empty: nobody is.
  ProgressCallback progress;
};

struct Pushed {
  uint64_t version = 0;  // that the receiver gave them
  // The bytes, paths and digest are the receiver's, of the message that brought
  // the tensors; the time is that of all of the push. operation is 0.
  Receipt receipt;
};

// Sends tensors to a peer, which publishes them as the bundle's next version.
// OK: they are published, and written to a file if the receiver does that. The
// tensors must not be written to before `done` has run.
//
// PERMISSION_DENIED: the peer takes no pushes; nothing was sent then.
// INVALID_ARGUMENT: the bundle's name, or what CheckNamed says.
// FAILED_PRECONDITION: what CheckUnchanged says. Else what Session::Call or the
// receiver says; whether they were published is unknown if the session broke.
// DEADLINE_EXCEEDED also if the peer serves no catalog.
Operation Push(std::shared_ptr<Session> session, NamedTensors contents,
               PushOptions options, Done<Pushed> done);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_PUSH_H_
