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
  std::string bundle;  // that they become a new version of
  absl::Duration timeout = absl::Minutes(1);
  StreamSet streams;
  ProgressCallback progress;
};

struct Pushed {
  uint64_t version = 0;  // that the receiver gave them
  Receipt receipt;       // operation is 0
};

// Sends tensors to a peer, which publishes them as the bundle's next version.
// OK: they are published, and written to a file if the receiver does that. The
// tensors must not be written to before `done` has run.
//
// PERMISSION_DENIED: the peer takes no pushes; nothing was sent then.
// INVALID_ARGUMENT: the bundle's name, or what CheckNamed says. Else what
// Session::Call or the receiver says; whether they were published is unknown if
// the session broke.
Operation Push(std::shared_ptr<Session> session, NamedTensors contents,
               PushOptions options, Done<Pushed> done);

}  // namespace tensorferry

#endif  // TENSORFERRY_CATALOG_PUSH_H_
