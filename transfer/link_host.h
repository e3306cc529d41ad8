#ifndef TENSORFERRY_TRANSFER_LINK_HOST_H_
#define TENSORFERRY_TRANSFER_LINK_HOST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/clock.h"
#include "base/done.h"
#include "base/executor.h"
#include "pool/buffer_pool.h"
#include "pool/lease_space.h"
#include "serialization/buffers.h"
#include "serialization/converter_registry.h"
#include "serialization/device_converter.h"
#include "transfer/lanes.h"
#include "transfer/rules.h"

namespace tensorferry {

class BufferPool;
class DigestHelpers;

// What the two directions of a link share, and what they ask of the link.
class LinkHost {
 public:
  // What is left to do after work: first on the loop, then for the user.
  struct Afterwards {
    Task on_loop, for_user;
    bool quick = false;  // `for_user` is
  };

  virtual ~LinkHost() = default;

  // Light work takes less than the way to another thread: some microseconds, or
  // some ten for what is to digest of kFewBytes.
  enum class Weight { kLight, kHeavy };
  static constexpr uint64_t kFewBytes = uint64_t{1} << 20;
  // Runs `work`: on the executor if it is heavy, and `for_user` after it there;
  // else in the loop's next turn, and tells the user as Tell does. The link
  // does not close before `on_loop` has run. Loop only.
  virtual void Work(Weight weight,
                    absl::AnyInvocable<Afterwards() &&> work) = 0;
  // Runs `reached` on the loop once the streams that `regions` are on have come
  // as far as they are filled now; within the call if there are none. With the
  // error of a device, if it has one. The link does not close before. Loop
  // only.
  virtual void WhenReached(const std::vector<Region>& regions,
                           DoneStatus reached) = 0;
  // Tells a user: on the executor, or, if it is quick (see
  // SendOptions::done_is_quick), at once. Any thread.
  virtual void Tell(Task task, bool quick = false) = 0;
  // Runs `task` on the loop in a later turn.
  virtual void Later(Task task) = 0;
  // Runs tasks on the loop, from any thread and for however long: those that
  // come when the link is gone are dropped.
  virtual std::function<void(Task)> PostWhileThere() = 0;
  // Ends the link from the loop's next turn on.
  virtual void EndSoon(absl::Status why) = 0;
  // To be called on the loop after every event.
  virtual void AfterEvent() = 0;

  Lanes* lanes = nullptr;
  Clock* clock = nullptr;
  TransferRules rules;
  const ConverterRegistry* converters = nullptr;  // null: the global one
  BufferSource* buffers = nullptr;  // the user's; null: the pool, if there is
  uint64_t quick_bytes = 0;         // memory for up to so many is had at once
  // Where what the peer lends may be put.
  const std::shared_ptr<LeaseSpace> leases = LeaseSpace::Create();
  DigestHelpers* digest_helpers = nullptr;  // null: there are none
  std::shared_ptr<BufferPool> pool;  // until the link is gone; null: none

  // "peer x, session y", for messages.
  std::string Whom() const;
  // The status with what it is about in front.
  static absl::Status About(const std::string& what,
                            const absl::Status& status);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LINK_HOST_H_
