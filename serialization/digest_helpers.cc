#include "serialization/digest_helpers.h"

#include <utility>

#include "base/exception_status.h"

namespace tensorferry {

void DigestHelpers::Ask(Task help) {
  if (waiting_->fetch_add(1) >= most_) {
    waiting_->fetch_sub(1);
    return;
  }
  absl::Status room = CatchExceptions("asking for help", [&] {
    threads_->Run([waiting = waiting_, help = std::move(help)]() mutable {
      waiting->fetch_sub(1);
      std::move(help)();
    });
  });
  if (!room.ok()) waiting_->fetch_sub(1);
}

}  // namespace tensorferry
