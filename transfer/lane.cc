#include "transfer/lane.h"

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "transfer/tensorpipe_status.h"

namespace tensorferry {
namespace {

// Calls of tensorpipe that this thread is in, for whichever lane: what it says
// meanwhile has to wait until the callers are through.
thread_local int calls_under_way = 0;

}  // namespace

Lane::Lane(Loop* loop, std::shared_ptr<tensorpipe::Pipe> pipe, std::string name)
    : loop_(loop), pipe_(std::move(pipe)), name_(std::move(name)) {}

template <class Call>
bool Lane::Guarded(Call call) {
  ++calls_under_way;
  auto leave = absl::MakeCleanup([] { --calls_under_way; });
  try {
    call();
    return true;
  } catch (...) {
    absl::Status why = CurrentExceptionStatus(name_);
    Break(why);
    loop_->Post([self = shared_from_this(), why = std::move(why)] {
      if (self->callbacks_.on_thrown) self->callbacks_.on_thrown(why);
    });
    return false;
  }
}

// Runs `heard` on the loop, at once if that is where we are.
template <class Heard>
void Lane::Hear(Heard heard) {
  if (posted_ == 0 && calls_under_way == 0 && loop_->OnLoopThread()) {
    return heard();
  }
  ++posted_;
  loop_->Post([self = shared_from_this(), heard = std::move(heard)]() mutable {
    --self->posted_;
    heard();
  });
}

void Lane::Start(Callbacks callbacks) {
  callbacks_ = std::move(callbacks);
  ReadDescriptor();
}

void Lane::ReadDescriptor() {
  if (ending_) return;
  descriptor_pending_ = true;
  Guarded([this] {
    pipe_->readDescriptor([self = shared_from_this()](
                              const tensorpipe::Error& error,
                              tensorpipe::Descriptor descriptor) {
      self->Hear([self, error, descriptor = std::move(descriptor)]() mutable {
        self->OnDescriptor(error, std::move(descriptor));
      });
    });
  });
}

void Lane::OnDescriptor(const tensorpipe::Error& error,
                        tensorpipe::Descriptor descriptor) {
  if (broken_) return;
  descriptor_pending_ = false;
  if (error) {
    Fail(error);
  } else if (!ending_) {
    callbacks_.on_descriptor(std::move(descriptor));
  }
  MaybeEnd();
}

void Lane::Write(tensorpipe::Message message, Written done) {
  if (ending_) return FailLater(std::move(done));
  writes_.push_back(std::move(done));
  Guarded([&] {
    pipe_->write(std::move(message), [self = shared_from_this()](
                                         const tensorpipe::Error& error) {
      self->Hear([self, error] { self->OnDone(self->writes_, error); });
    });
  });
}

void Lane::Read(tensorpipe::Allocation allocation, Written done) {
  if (ending_) return FailLater(std::move(done));
  reads_.push_back(std::move(done));
  bool called = Guarded([&] {
    pipe_->read(std::move(allocation), [self = shared_from_this()](
                                           const tensorpipe::Error& error) {
      self->Hear([self, error] { self->OnDone(self->reads_, error); });
    });
  });
  if (called) ReadDescriptor();
}

std::shared_ptr<void> Lane::Hold() {
  ++held_;
  return {nullptr, [self = shared_from_this()](void*) {
            --self->held_;
            self->loop_->Post([self] { self->MaybeEnd(); });
          }};
}

void Lane::FailLater(Written done) {
  ++failing_;
  loop_->Post([self = shared_from_this(), done = std::move(done)]() mutable {
    --self->failing_;
    std::move(done)(false);
    self->MaybeEnd();
  });
}

void Lane::OnDone(std::deque<Written>& pending,
                  const tensorpipe::Error& error) {
  if (broken_) return;
  Written done = std::move(pending.front());
  pending.pop_front();
  if (error) Fail(error);
  std::move(done)(!error);
  MaybeEnd();
}

void Lane::Fail(const tensorpipe::Error& error) {
  Close(ToStatus(error, name_));
}

void Lane::Close(absl::Status why) {
  if (ending_) return;
  ending_ = true;
  why_ = std::move(why);
  Guarded([this] { pipe_->close(); });
  loop_->Post([self = shared_from_this()] { self->MaybeEnd(); });
}

void Lane::Break(absl::Status why) {
  if (broken_) return;
  broken_ = true;
  if (!ending_) why_ = std::move(why);
  ending_ = true;
}

void Lane::Release() {
  auto self = shared_from_this();  // on_ended lets go of it
  released_ = true;
  descriptor_pending_ = false;
  for (auto* pending : {&reads_, &writes_}) {
    while (!pending->empty()) {
      Written done = std::move(pending->front());
      pending->pop_front();
      std::move(done)(false);
    }
  }
  MaybeEnd();
}

void Lane::MaybeEnd() {
  if (!ending_ || ended_ || (broken_ && !released_) || descriptor_pending_ ||
      failing_ != 0 || held_ != 0 || !reads_.empty() || !writes_.empty()) {
    return;
  }
  ended_ = true;
  Callbacks callbacks = std::move(callbacks_);
  pipe_ = nullptr;
  if (callbacks.on_ended) callbacks.on_ended(why_);
}

}  // namespace tensorferry
