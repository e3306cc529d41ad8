#ifndef TENSORFERRY_TRANSFER_LANE_H_
#define TENSORFERRY_TRANSFER_LANE_H_

#include <tensorpipe/core/message.h>
#include <tensorpipe/core/pipe.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/loop.h"

namespace tensorferry {

// One tensorpipe pipe, used from its loop only. tensorpipe may throw, and call
// back within a call or, for some channels, on another thread; none of that
// gets past here: every callback given to a lane runs on the loop exactly once,
// in the order of tensorpipe's, and never within a call of a lane.
//
// A lane ends once, by Close or because the transport failed. `on_ended` runs
// after all other callbacks: from then on the transport holds no buffer. One
// that broke cannot know that by itself, and ends when it is released.
class Lane : public std::enable_shared_from_this<Lane> {
 public:
  using Written = absl::AnyInvocable<void(bool ok) &&>;

  struct Callbacks {
    // A message is described; Read must follow, or Close.
    std::function<void(tensorpipe::Descriptor)> on_descriptor;
    std::function<void(absl::Status why)> on_ended;
    // tensorpipe threw, and the lane is broken.
    std::function<void(absl::Status why)> on_thrown;
  };

  // `name` is for messages: "lane 2 to x".
  Lane(Loop* loop, std::shared_ptr<tensorpipe::Pipe> pipe, std::string name);

  void Start(Callbacks callbacks);
  // Once it is known which lane this is.
  void set_name(std::string name) { name_ = std::move(name); }
  // The buffers in `message` must stay valid until `done` runs.
  void Write(tensorpipe::Message message, Written done);
  // Takes the message that was described last, and asks for the next.
  void Read(tensorpipe::Allocation allocation, Written done);
  // The lane does not end before this is gone, on the loop: for a Read that has
  // to wait.
  std::shared_ptr<void> Hold();
  // The first reason counts.
  void Close(absl::Status why);
  // tensorpipe is in an unknown state: for this lane it is not called any more,
  // nor heard.
  void Break(absl::Status why);
  // Ends one that broke: nothing touches its buffers any more.
  void Release();

  bool ending() const { return ending_; }
  size_t writes_pending() const { return writes_.size(); }
  // tensorpipe has thrown: its context must be leaked, joining it would hang.
  bool broken() const { return broken_; }

 private:
  template <class Call>
  bool Guarded(Call call);
  template <class Heard>
  void Hear(Heard heard);
  void ReadDescriptor();
  void OnDescriptor(const tensorpipe::Error& error,
                    tensorpipe::Descriptor descriptor);
  void OnDone(std::deque<Written>& pending, const tensorpipe::Error& error);
  void Fail(const tensorpipe::Error& error);
  void FailLater(Written done);
  void MaybeEnd();

  Loop* const loop_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
  std::string name_;
  Callbacks callbacks_;
  // tensorpipe answers reads in their order, and writes in theirs.
  std::deque<Written> reads_, writes_;
  std::atomic<int> posted_ = 0;  // callbacks that wait for the loop
  int failing_ = 0;              // calls that came too late and will be told so
  int held_ = 0;
  bool descriptor_pending_ = false;
  bool ending_ = false, ended_ = false, broken_ = false, released_ = false;
  absl::Status why_;
};

}  // namespace tensorferry

#endif  // TENSORFERRY_TRANSFER_LANE_H_
